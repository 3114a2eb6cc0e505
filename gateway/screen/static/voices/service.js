// The voiceprint service (docs/voiceprint.md): every answer is HTTP 200, and its `code` says how it went.

const IN_PROGRESS = "10000";
const NO_ACCESS = "10105";
const PATIENCE = 20;

/** The service said no: `code`, `message`, and `reason` (such as "too_quiet") with `measured` where it was the audio's fault. */
export class VoiceprintFault extends Error {
  constructor({ code, msg, data }) {
    super(msg);
    this.name = "VoiceprintFault";
    this.code = code;
    this.reason = data?.reason ?? "";
    this.measured = data?.measured ?? null;
  }
}

export class VoiceprintService {
  #api;

  /** `scope`: {org_id, tag_id} of the voices that are meant. */
  constructor(api, scope) {
    this.#api = api;
    this.scope = scope;
  }

  /** mode: "new", "add" or "replace". */
  enrol(name, file, mode) {
    const fields = { ...this.scope, spk_name: name };
    if (mode === "new") return this.#post("/voiceid/register", fields, file);
    return this.#post("/voiceid/update", { ...fields, mode }, file);
  }

  /** The closest voices, best first: {spk_name, tag, score, kind}. `anyTag`: of every tag of the organisation. */
  recognize(file, anyTag) {
    const { org_id, tag_id } = this.scope;
    return this.#post("/voiceid/recognize/v2", anyTag ? { org_id } : { org_id, tag_id }, file);
  }

  list(offset, limit) {
    return this.#get("/voiceid/list", { ...this.scope, offset, limit });
  }

  async count() {
    return (await this.#get("/voiceid/count", this.scope)).count;
  }

  remove(name) {
    return this.#get("/voiceid/del-spk-name", { ...this.scope, spk_name: name });
  }

  #get(path, query) {
    return this.#told(() => this.#api.get(`${path}?${new URLSearchParams(query)}`));
  }

  #post(path, fields, file) {
    return this.#told(() => {
      const form = new FormData();
      for (const [name, value] of Object.entries(fields)) form.append(name, value);
      form.append("audio", file);
      return this.#api.post(path, form);
    });
  }

  /** The answer's data. The same request sent again waits for the result of work that takes long. */
  async #told(ask) {
    let answer = await ask();
    for (let again = 0; answer.code === IN_PROGRESS && again < PATIENCE; again += 1) answer = await ask();
    if (answer.code === "0") return answer.data;
    if (answer.code === NO_ACCESS) this.#api.onSignedOut();
    throw new VoiceprintFault(answer);
  }
}
