/**
 * Runs beside the audio hardware: takes one input for each channel of the call, makes each mono, brings it to the call's
 * rate and hands out 16-bit PCM, interleaved, in chunks.
 *
 * All inputs belong to one render clock, so two devices never drift apart in what is sent: the browser fits each device's
 * own clock to it, and one that delivers nothing is silence.
 */
import { Resampler } from "./resampler.js";

class CaptureProcessor extends AudioWorkletProcessor {
  #channels;
  #chunkInstants;
  #resamplers;
  /** Of each channel, what is not handed out yet. */
  #waiting;
  #peaks;
  #stopped = false;

  /** processorOptions: {channels, rate, chunkInstants}. */
  constructor({ processorOptions: { channels, rate, chunkInstants } }) {
    super();
    this.#channels = channels;
    this.#chunkInstants = chunkInstants;
    this.#resamplers = sampleRate === rate ? null : Array.from({ length: channels }, () => new Resampler(sampleRate, rate));
    this.#waiting = Array.from({ length: channels }, () => []);
    this.#peaks = new Array(channels).fill(0);
    this.port.onmessage = () => this.#stop();
  }

  process(inputs) {
    if (this.#stopped) return false;
    for (let channel = 0; channel < this.#channels; channel += 1) {
      const mono = mixed(inputs[channel]);
      const samples = this.#resamplers ? this.#resamplers[channel].push(mono) : mono;
      for (const sample of samples) this.#waiting[channel].push(sample);
    }
    while (this.#waiting[0].length >= this.#chunkInstants) this.#hand(this.#chunkInstants);
    return true;
  }

  #stop() {
    if (!this.#stopped) {
      this.#stopped = true;
      if (this.#waiting[0].length) this.#hand(this.#waiting[0].length);
    }
    this.port.postMessage({ stopped: true });
  }

  #hand(instants) {
    const pcm = new Int16Array(instants * this.#channels);
    this.#peaks.fill(0);
    for (let channel = 0; channel < this.#channels; channel += 1) {
      const samples = this.#waiting[channel].splice(0, instants);
      for (let i = 0; i < instants; i += 1) {
        const value = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
        pcm[i * this.#channels + channel] = value;
        this.#peaks[channel] = Math.max(this.#peaks[channel], Math.abs(value));
      }
    }
    this.port.postMessage({ pcm, peaks: [...this.#peaks] }, [pcm.buffer]);
  }
}

/** The mean of an input's channels; silence for an input that is not connected, or has nothing. */
function mixed(input) {
  if (input.length === 0) return new Float32Array(128);
  if (input.length === 1) return input[0];
  const mono = new Float32Array(input[0].length);
  for (const channel of input) for (let i = 0; i < mono.length; i += 1) mono[i] += channel[i] / input.length;
  return mono;
}

registerProcessor("earshot-capture", CaptureProcessor);
