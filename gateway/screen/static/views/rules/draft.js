// A category as it is being edited, and what of it the server is told.

/** What a rule may ask beyond its expression: how it is typed, and what stands for "not asked". */
export const OPTIONS = [
  { name: "role", kind: "text", list: ["agent", "customer"] },
  { name: "channel", kind: "number", min: 0, max: 1, step: 1 },
  { name: "speaker", kind: "text" },
  { name: "first_s", kind: "number", min: 0, step: "any" },
  { name: "last_s", kind: "number", min: 0, step: "any" },
  { name: "count", kind: "number", min: 1, step: 1 },
  { name: "within_ms", kind: "number", min: 1, step: 1 },
  { name: "within_words", kind: "number", min: 0, step: 1 },
  { name: "order", kind: "flag" },
  { name: "pinyin", kind: "flag" },
];
const MORE_THAN_KEYWORDS = /[:：]|\b(silence|talkover|rate)\s*[<>＜＞]/i;

export function newDraft() {
  return { name: "", description: "", isNew: true, rules: [newRule()], changed: false };
}

export const newRule = () => ({ expression: "", extended: false, shadow: false, options: {} });

/** A draft of a category as the server lists it. */
export function draftOf(category) {
  return {
    name: category.category, description: category.description, isNew: false, changed: false,
    rules: category.contents.map(ruleOf),
  };
}

function ruleOf(content) {
  if (typeof content === "string") return { ...newRule(), expression: content };
  const { expression, shadow = false, ...options } = content;
  const asks = Object.keys(options).length > 0;
  // In shadow a plain expression is kept as an object. It stays plain, unless its words mean more in an object.
  return { expression, shadow, options, extended: asks || !shadow || MORE_THAN_KEYWORDS.test(expression) };
}

/** Whether the server keeps the rule as an object; a plain string is the vendor's language and nothing else. */
export const isObject = (rule) => rule.extended || rule.shadow || Object.keys(rule.options).length > 0;

export function contentOf(rule) {
  return isObject(rule) ? { expression: rule.expression, ...rule.options, ...(rule.shadow && { shadow: true }) } : rule.expression;
}

/** The body of a `PUT`. */
export function bodyOf(draft) {
  return { contents: draft.rules.map(contentOf), ...(draft.description && { description: draft.description }) };
}

/** The index in a JavaScript string of the `at`th character, as the server counts them. */
export function unitsOf(text, at) {
  return [...text].slice(0, at).join("").length;
}
