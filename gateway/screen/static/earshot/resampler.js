/**
 * A streaming polyphase resampler: a Kaiser-windowed sinc, 80 dB down from the new Nyquist frequency on. For browsers that
 * do not resample a microphone to the AudioContext's rate; the others never need it.
 */
const ZERO_CROSSINGS = 48;
const KAISER_BETA = 7.86;
/** The transition band ends at the Nyquist frequency rather than in its middle. */
const CUTOFF = 0.95;

export class Resampler {
  #up;
  #down;
  #half;
  #phases;
  /** Input not used up; its first sample has number #first. */
  #input;
  #first;
  #made = 0;

  /** From one whole rate in Hz to another; one channel. */
  constructor(fromHz, toHz) {
    const divisor = gcd(fromHz, toHz);
    this.#up = toHz / divisor;
    this.#down = fromHz / divisor;
    const width = Math.max(1, fromHz / toHz);
    this.#half = Math.ceil(ZERO_CROSSINGS * width);
    this.#phases = Array.from({ length: this.#up }, (_, phase) => taps(phase / this.#up, this.#half, CUTOFF / width));
    this.#input = new Float32Array(this.#half - 1);
    this.#first = 1 - this.#half;
  }

  /** Takes the next samples and gives those that can be made by now, half a filter (3 ms at 48 kHz) behind. */
  push(samples) {
    const input = new Float32Array(this.#input.length + samples.length);
    input.set(this.#input);
    input.set(samples, this.#input.length);
    const end = this.#first + input.length;
    const made = [];
    for (;;) {
      const position = this.#made * this.#down;
      const centre = Math.floor(position / this.#up);
      if (centre + this.#half >= end) break;
      const filter = this.#phases[position % this.#up];
      const begin = centre - this.#half + 1 - this.#first;
      let sum = 0;
      for (let i = 0; i < filter.length; i += 1) sum += filter[i] * input[begin + i];
      made.push(sum);
      this.#made += 1;
    }
    const needed = Math.floor((this.#made * this.#down) / this.#up) - this.#half + 1;
    const keep = Math.min(input.length, Math.max(0, needed - this.#first));
    this.#input = input.slice(keep);
    this.#first += keep;
    return Float32Array.from(made);
  }
}

/** The filter for an output that lies `fraction` behind input sample 0: one tap for each of -half + 1 ... half. */
function taps(fraction, half, cutoff) {
  const filter = new Float32Array(2 * half);
  let sum = 0;
  for (let i = 0; i < filter.length; i += 1) {
    const x = i - half + 1 - fraction;
    const window = bessel(KAISER_BETA * Math.sqrt(Math.max(0, 1 - (x / half) ** 2))) / bessel(KAISER_BETA);
    filter[i] = cutoff * sinc(cutoff * x) * window;
    sum += filter[i];
  }
  return filter.map((tap) => tap / sum);
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of the first kind and order zero, by its power series. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let n = 1; term > sum * 1e-12; n += 1) {
    term *= (x / (2 * n)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}
