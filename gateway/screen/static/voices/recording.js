// A recording of a voice: from a microphone or a file, how good it is, and as a file to send.

import { Capture, decodeFile } from "../earshot/capture.js";
import { openMicrophone } from "../earshot.js";

export const RATE_HZ = 16000;
const MOST_S = 60;
const BLOCK = RATE_HZ / 50;
/** As the service measures: the loud parts are the 95th percentile of blocks of 20 ms, or the loudest half second. */
const LOUD_SHARE = 0.05;
const LOUD_BLOCKS = 25;
/** Blocks this far below the loud parts are pauses. */
const PAUSE_DB = 22;
const LEAST_SPEECH_DB = -55;
const FULL_SCALE = 32766;

/** How good a recording is: {durationMs, speechMs, levelDb, clippedShare}; speech is an estimate by loudness. */
export class Quality {
  #levels = [];
  #rest = new Int16Array(0);
  #samples = 0;
  #clipped = 0;

  push(samples) {
    this.#samples += samples.length;
    for (const one of samples) if (Math.abs(one) >= FULL_SCALE) this.#clipped += 1;
    const all = new Int16Array(this.#rest.length + samples.length);
    all.set(this.#rest);
    all.set(samples, this.#rest.length);
    let at = 0;
    for (; at + BLOCK <= all.length; at += BLOCK) {
      let sum = 0;
      for (let i = at; i < at + BLOCK; i += 1) sum += all[i] * all[i];
      this.#levels.push(10 * Math.log10(sum / BLOCK / 32768 ** 2 + 1e-10));
    }
    this.#rest = all.slice(at);
  }

  get result() {
    const sorted = [...this.#levels].sort((a, b) => b - a);
    const loud = Math.min(sorted.length - 1, Math.max(Math.floor(sorted.length * LOUD_SHARE), Math.min(LOUD_BLOCKS, sorted.length) - 1));
    const levelDb = sorted[loud] ?? -100;
    const least = Math.max(LEAST_SPEECH_DB, levelDb - PAUSE_DB);
    return {
      durationMs: (this.#samples * 1000) / RATE_HZ,
      speechMs: this.#levels.filter((level) => level > least).length * 20,
      levelDb,
      clippedShare: this.#samples ? this.#clipped / this.#samples : 0,
    };
  }
}

/** What is wrong with a recording as far as the page can tell, worst first: names of advice. */
export function flaws({ speechMs, levelDb, clippedShare }) {
  return [
    levelDb < -70 && "silence",
    levelDb >= -70 && levelDb < -50 && "too_quiet",
    clippedShare > 0.05 && "clipped",
    levelDb >= -50 && speechMs < 1000 && "too_short",
    levelDb >= -50 && speechMs >= 1000 && speechMs < 5000 && "short",
    clippedShare > 0.001 && clippedShare <= 0.05 && "nearly_clipped",
    levelDb >= -50 && levelDb < -40 && "quiet",
  ].filter(Boolean);
}

/** Records a microphone until `stop`, a minute at most. */
export class Recorder {
  #chunks = [];
  #quality = new Quality();
  #capture;
  #stopped = null;

  /** `onHeard(quality, peakDb)` as it goes on, `onFull()` when the minute is over. Throws EarshotError. */
  static async start(device, { onHeard, onFull }) {
    const recorder = new Recorder();
    const stream = await openMicrophone(device);
    recorder.#capture = await Capture.ofStreams([stream], {
      rate: RATE_HZ,
      onAudio: ({ pcm, peaks }) => {
        recorder.#chunks.push(pcm);
        recorder.#quality.push(pcm);
        onHeard(recorder.#quality.result, Math.max(-90, 20 * Math.log10(peaks[0] / 32768)));
        if (recorder.#quality.result.durationMs >= MOST_S * 1000) onFull();
      },
      onLost: onFull,
    });
    return recorder;
  }

  /** The recording: {file, quality}. */
  stop() {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop() {
    await this.#capture.stop();
    return { file: new File([wav(this.#chunks)], "recording.wav", { type: "audio/wav" }), quality: this.#quality.result };
  }
}

/** A file as a recording; what the browser cannot read is left to the service, and `quality` is null. */
export async function recordingOf(file) {
  try {
    const buffer = await decodeFile(file, RATE_HZ);
    const quality = new Quality();
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
    const mono = Int16Array.from(channels[0], (_, at) => {
      const mean = channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length;
      return Math.max(-32768, Math.min(32767, Math.round(mean * 32768)));
    });
    quality.push(mono);
    return { file, quality: quality.result };
  } catch (fault) {
    if (fault.code !== "bad_file") throw fault;
    return { file, quality: null };
  }
}

/** Mono 16-bit PCM behind a WAV header. */
function wav(chunks) {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, RATE_HZ, true);
  header.setUint32(28, RATE_HZ * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...chunks], { type: "audio/wav" });
}
