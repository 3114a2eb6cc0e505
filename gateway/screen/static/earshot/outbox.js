/**
 * What a call has said and the server does not have for certain: audio by its position, control messages each in its
 * place among the audio. It knows no socket and no clock.
 *
 * Positions are bytes of the call's audio from its beginning; all audio comes and goes in whole instants (one sample of
 * every channel).
 */
export class Outbox {
  #framed;
  #silence;
  #maxBytes;
  #maxHoleBytes;
  #shortBytes;
  /** Audio kept, in order: {at, bytes}. Between two of them may be a hole, where there was no room. */
  #chunks = [];
  #keptBytes = 0;
  #endByte = 0;
  #ackedByte = 0;
  /** The next byte that the socket in use is to be given. */
  #cursor = 0;
  /** Control messages not known to be taken: {at, text}; the first is number #taken + 1 of the call. */
  #controls = [];
  #taken = 0;
  /** How many of the call's control messages the socket in use has been given, or had before. */
  #sent = 0;

  /**
   * `framed`: audio that was not kept is left out, for the server to declare; else silence takes its place.
   * `silence`: the byte that is silence. `maxBytes`: audio kept at most. `maxHoleBytes`: the longest hole that the server
   * takes; `shortBytes` of silence divide one that is longer.
   */
  constructor({ framed, silence, maxBytes, maxHoleBytes, shortBytes }) {
    this.#framed = framed;
    this.#silence = silence;
    this.#maxBytes = maxBytes;
    this.#maxHoleBytes = maxHoleBytes;
    this.#shortBytes = shortBytes;
  }

  /** Where the audio said so far ends. */
  get endByte() {
    return this.#endByte;
  }

  get ackedByte() {
    return this.#ackedByte;
  }

  get keptBytes() {
    return this.#keptBytes;
  }

  /** The first byte that can still be sent. */
  get firstByte() {
    return this.#chunks.length ? this.#chunks[0].at : this.#endByte;
  }

  /** Whether everything said has been given to the socket. */
  get allSent() {
    return this.#cursor >= this.#endByte && this.#sent - this.#taken >= this.#controls.length;
  }

  /** Go on with a call of which somebody else said what is before `byte`, and `taken` control messages. */
  beginAt(byte, taken) {
    this.#endByte = this.#ackedByte = this.#cursor = byte;
    this.#taken = this.#sent = taken;
  }

  /** Time went by without audio: a hole of so many bytes. */
  skip(bytes) {
    this.#endByte += bytes;
  }

  /** Add audio; false when there is no room, and a hole of its length is left instead. */
  keep(bytes) {
    const at = this.#endByte;
    this.#endByte += bytes.length;
    if (this.#keptBytes + bytes.length > this.#maxBytes) return false;
    this.#chunks.push({ at, bytes });
    this.#keptBytes += bytes.length;
    return true;
  }

  /** Add a control message behind the audio said so far. */
  addControl(text) {
    this.#controls.push({ at: this.#endByte, text });
  }

  /** Everything before `byte` is safe: forget it, and the control messages that were sent before it. */
  forget(byte) {
    this.#ackedByte = Math.max(this.#ackedByte, byte);
    this.#cursor = Math.max(this.#cursor, byte);
    let gone = 0;
    while (gone < this.#chunks.length && this.#chunks[gone].at + this.#chunks[gone].bytes.length <= byte) {
      this.#keptBytes -= this.#chunks[gone].bytes.length;
      gone += 1;
    }
    this.#chunks.splice(0, gone);
    const first = this.#chunks[0];
    if (first && first.at < byte) {
      const rest = first.bytes.subarray(byte - first.at);
      this.#keptBytes -= first.bytes.length - rest.length;
      this.#chunks[0] = { at: byte, bytes: rest };
    }
    // The server takes everything in order: what was sent before safe audio is safe.
    while (this.#controls.length && this.#controls[0].at < byte) this.#takeOne();
  }

  /** A new socket: the server has the audio before `byte`, and `taken` of the call's control messages. */
  rewind(byte, taken) {
    while (this.#taken < taken && this.#controls.length) this.#takeOne();
    this.#sent = this.#taken;
    this.#cursor = byte;
  }

  /** Give up the first control message that was sent and not taken: the server would refuse it again. */
  dropRefused(taken) {
    while (this.#taken < taken && this.#controls.length) this.#takeOne();
    if (this.#sent > this.#taken && this.#controls.length) {
      this.#controls.shift();
      this.#sent -= 1;
    }
  }

  /**
   * What to send next: {text}, or {bytes, at} with at most `mostBytes` of audio, or null when there is nothing.
   * It counts as sent.
   */
  next(mostBytes) {
    for (;;) {
      const control = this.#controls[this.#sent - this.#taken];
      if (control && control.at <= this.#cursor) {
        this.#sent += 1;
        return { text: control.text };
      }
      const until = control ? control.at : this.#endByte;
      if (this.#cursor >= until) return null;
      const index = this.#find(this.#cursor);
      const holeEnd = Math.min(index < this.#chunks.length ? this.#chunks[index].at : this.#endByte, until);
      if (holeEnd <= this.#cursor) return this.#audio(index, Math.min(until, this.#cursor + mostBytes));
      const silence = this.#crossHole(holeEnd, mostBytes);
      if (silence) return silence;
    }
  }

  #takeOne() {
    this.#controls.shift();
    this.#taken += 1;
    this.#sent = Math.max(this.#sent, this.#taken);
  }

  /** The first chunk that ends after this byte. */
  #find(byte) {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#chunks[middle].at + this.#chunks[middle].bytes.length > byte) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Audio from the cursor on, no further than `until` or the next hole. */
  #audio(index, until) {
    const at = this.#cursor;
    const parts = [];
    for (let i = index; i < this.#chunks.length && this.#cursor < until; i += 1) {
      const { at: begin, bytes } = this.#chunks[i];
      if (begin > this.#cursor) break;
      const part = bytes.subarray(this.#cursor - begin, Math.min(bytes.length, until - begin));
      parts.push(part);
      this.#cursor += part.length;
    }
    return { at, bytes: parts.length === 1 ? parts[0] : joined(parts) };
  }

  /** Step over a hole; silence, if that has to be sent in its place. */
  #crossHole(holeEnd, mostBytes) {
    const at = this.#cursor;
    if (!this.#framed) {
      this.#cursor = Math.min(holeEnd, at + mostBytes);
      return { at, bytes: new Uint8Array(this.#cursor - at).fill(this.#silence) };
    }
    if (holeEnd - at <= this.#maxHoleBytes) {
      this.#cursor = holeEnd;
      return null;
    }
    this.#cursor = at + this.#maxHoleBytes;
    const divider = { at: this.#cursor, bytes: new Uint8Array(this.#shortBytes).fill(this.#silence) };
    this.#cursor += this.#shortBytes;
    return divider;
  }
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
