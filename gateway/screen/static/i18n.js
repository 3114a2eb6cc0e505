// Words of the screen: `i18n/<part>.<language>.js` each export an object of key to text.

export const LANGUAGES = { en: "English", zh: "中文" };
const KEY = "earshot.language";

function preferred() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept in LANGUAGES) return kept;
  } catch {
    // Storage may be switched off: then the browser's wish counts.
  }
  for (const wish of navigator.languages ?? []) {
    const known = wish.slice(0, 2).toLowerCase();
    if (known in LANGUAGES) return known;
  }
  return "en";
}

export class Words {
  #texts = new Map();
  #plurals;

  constructor() {
    this.#use(preferred());
  }

  #use(language) {
    this.language = language;
    this.#plurals = new Intl.PluralRules(language);
    document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  }

  /** Have the words of these parts ready, such as "shell". Rejects when a file cannot be had. */
  async load(...parts) {
    const language = this.language;
    const files = await Promise.all(parts.map((part) => import(`./i18n/${part}.${language}.js`)));
    for (const file of files) {
      for (const [key, text] of Object.entries(file.default)) this.#texts.set(`${language}:${key}`, text);
    }
  }

  /** From now on speak `language`; what was loaded is loaded anew by whoever needs it. */
  choose(language) {
    try {
      localStorage.setItem(KEY, language);
    } catch {
      // It holds until the page is left.
    }
    this.#use(language);
  }

  /**
   * The text of a key with `{name}` replaced by `params.name`. With `params.count` the key's `.one` or `.other` form is
   * taken where there is one.
   */
  t = (key, params = {}) => {
    const at = (name) => this.#texts.get(`${this.language}:${name}`);
    const counted = "count" in params ? at(`${key}.${this.#plurals.select(params.count)}`) ?? at(`${key}.other`) : undefined;
    const text = counted ?? at(key);
    if (text === undefined) {
      console.error(`i18n: no ${this.language} text for ${key}`);
      return key;
    }
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in params ? String(params[name]) : whole));
  };

  /** The text of a key if there is one, else `fallback`: for values that a newer server may add to. */
  maybe = (key, fallback) => this.#texts.get(`${this.language}:${key}`) ?? fallback;
}
