/** Sound of devices and files as 16-bit PCM at a call's rate, by an AudioWorklet. */
import { EarshotError } from "./line.js";

const WORKLET = new URL("./capture.worklet.js", import.meta.url);
const CHUNK_MS = 40;
/** How long the worklet may take to hand out its last samples; a context that the browser has suspended never does. */
const STOP_TIMEOUT_MS = 500;
/** What is heard is evidence and is compared with voices: the browser evens out the loudness and changes nothing else. */
const CONSTRAINTS = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };

/** A file's sound as an AudioBuffer at `rate`. Throws EarshotError (`bad_file`). */
export async function decodeFile(file, rate) {
  try {
    return await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch (cause) {
    throw new EarshotError("bad_file", "the browser cannot read this file as sound", { cause });
  }
}

/** The audio inputs of this machine; without names until the page may use a microphone. */
export async function audioInputs() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput");
}

/** Open one microphone. Throws EarshotError: `no_microphone`, `microphone_refused` or `microphone_busy`. */
export async function openMicrophone(deviceId, constraints = {}) {
  if (!navigator.mediaDevices) {
    throw new EarshotError("no_microphone", "browsers give a microphone to pages of https:// and of this machine only");
  }
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { ...CONSTRAINTS, ...device, ...constraints } });
  } catch (cause) {
    const refused = cause.name === "NotAllowedError" || cause.name === "SecurityError";
    const missing = cause.name === "NotFoundError" || cause.name === "OverconstrainedError";
    if (refused) throw new EarshotError("microphone_refused", "the microphone was not allowed to this page", { cause });
    if (missing) throw new EarshotError("no_microphone", "there is no such microphone", { cause });
    throw new EarshotError("microphone_busy", `the microphone cannot be used: ${cause.message}`, { cause });
  }
}

/** One or two channels of sound, from devices or a file, until `stop`. */
export class Capture {
  #context;
  #node;
  #streams;
  #stopped = null;

  /**
   * One stream for each channel. `onAudio({pcm: Int16Array, peaks: [0..32768, ...]})` gets the sound, interleaved;
   * `onLost(channel)` hears that a device is gone, whose channel is silent from then on.
   */
  static async ofStreams(streams, { rate, onAudio, onLost }) {
    const capture = new Capture();
    capture.#streams = streams;
    const { sources } = await capture.#open(rate, streams.length, onAudio, (context) => streams.map((stream) =>
      context.createMediaStreamSource(stream)));
    sources.forEach((source, channel) => {
      source.connect(capture.#node, 0, channel);
      for (const track of streams[channel].getAudioTracks()) track.addEventListener("ended", () => onLost(channel));
    });
    return capture;
  }

  /** An AudioBuffer at the speed at which it was spoken; `onEnded` follows its last sample. `audible` plays it, too. */
  static async ofBuffer(buffer, { rate, channels, audible, onAudio, onEnded }) {
    const capture = new Capture();
    capture.#streams = [];
    const { context, sources } = await capture.#open(rate, channels, onAudio, (made) => [made.createBufferSource()]);
    const [source] = sources;
    source.buffer = buffer;
    if (channels === 1) source.connect(capture.#node, 0, 0);
    else {
      const splitter = context.createChannelSplitter(2);
      source.connect(splitter);
      splitter.connect(capture.#node, 0, 0);
      splitter.connect(capture.#node, 1, 1);
    }
    if (audible) source.connect(context.destination);
    source.addEventListener("ended", onEnded);
    source.start();
    return capture;
  }

  /** Hand out what is left, then let the devices go. Again does nothing more. */
  stop() {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** What cannot be opened holds neither devices nor the sound card. */
  async #open(...given) {
    try {
      return await this.#make(...given);
    } catch (fault) {
      this.#release();
      if (this.#context && this.#context.state !== "closed") await this.#context.close();
      throw fault;
    }
  }

  /** The context runs at the call's rate, so that the browser resamples; where it refuses, the worklet does. */
  async #make(rate, channels, onAudio, makeSources) {
    let context = (this.#context = new AudioContext({ sampleRate: rate }));
    let sources;
    try {
      sources = makeSources(context);
    } catch (fault) {
      if (fault.name !== "NotSupportedError") throw fault;
      await context.close();
      context = this.#context = new AudioContext();
      sources = makeSources(context);
    }
    await context.audioWorklet.addModule(WORKLET);
    const chunkInstants = (rate * CHUNK_MS) / 1000;
    const processorOptions = { channels, rate, chunkInstants };
    // Its one output is silence: what leads to no output may not be run.
    this.#node = new AudioWorkletNode(context, "earshot-capture", { numberOfInputs: channels, processorOptions });
    this.#node.port.onmessage = ({ data }) => data.pcm && onAudio(data);
    this.#node.connect(context.destination);
    // Not awaited: a browser that wants a click first would keep the caller waiting for it.
    if (context.state === "suspended") context.resume().catch(() => {});
    return { context, sources };
  }

  async #stop() {
    const { port } = this.#node;
    await new Promise((resolve) => {
      const hand = port.onmessage;
      port.onmessage = (event) => (event.data.stopped ? resolve() : hand(event));
      port.postMessage("stop");
      setTimeout(resolve, STOP_TIMEOUT_MS);
    });
    this.#release();
    await this.#context.close();
  }

  #release() {
    for (const stream of this.#streams) for (const track of stream.getTracks()) track.stop();
  }
}
