// Noise, networks, the two estimates that need no network, and how good an image is.
// An image is a Float32Array (channels * height * width); clean ones lie in [0, 1].

const NEGATIVE_SLOPE = 0.3; // of LeakyReLU, as in model/network.py
const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
const clipped = (value) => Math.min(1, Math.max(0, value));

// Uniform numbers in [0, 1): mulberry32, the same for a seed on every machine
function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// `count` numbers of N(0, 1), by Box and Muller
function normals(seed, count) {
  const uniform = uniforms(seed);
  const result = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    result[i] = radius * Math.cos(angle);
    if (i + 1 < count) result[i + 1] = radius * Math.sin(angle);
  }
  return result;
}

// clean + N(mean, sigma^2); with `asBytes` as an 8-bit picture holds it: clipped to [0, 1] and rounded
function addNoise(clean, normal, mean, sigma, asBytes) {
  const noisy = clean.map((pixel, i) => pixel + mean + sigma * normal[i]);
  return asBytes ? noisy.map((pixel) => Math.round(clipped(pixel) * 255) / 255) : noisy;
}

// 10 log10(1 / MSE) in dB
function psnr(estimate, clean) {
  let squares = 0;
  for (let i = 0; i < clean.length; i++) squares += (estimate[i] - clean[i]) ** 2;
  return -10 * Math.log10(squares / clean.length);
}

// The networks by kind: of settings and weights by name, a function each for
// - denoise(noisy, sigma), an image, and encode(noisy, sigma), its code; sigma is for networks that are told it
// - filter(unit) and column(unit), what a unit of the code sees and what it paints: weights of the shape of an image
const NETWORKS = {
  dense(settings, weights) {
    const encoder = weights["encoder.weight"]; // (latent, pixels)
    const decoder = weights["decoder.weight"]; // (pixels, latent)
    const encoderBias = weights["encoder.bias"];
    const decoderBias = weights["decoder.bias"];
    const latent = encoderBias.length;
    const pixels = decoderBias.length;
    const encode = (noisy) =>
      multiply(encoder, noisy).map((sum, unit) => {
        const answer = settings.input_scale * sum + encoderBias[unit];
        return answer < 0 ? NEGATIVE_SLOPE * answer : answer;
      });
    return {
      encode,
      denoise: (noisy) => multiply(decoder, encode(noisy)).map((sum, pixel) => sigmoid(sum + decoderBias[pixel])),
      filter: (unit) => encoder.subarray(unit * pixels, (unit + 1) * pixels),
      column: (unit) => decoderBias.map((_, pixel) => decoder[pixel * latent + unit]),
    };
  },
};

function makeModel(packed, index) {
  const entries = Object.entries(packed.weights).map(([name, value]) => [name, floatsOf(value)]);
  const network = NETWORKS[packed.network.kind](packed.network, Object.fromEntries(entries));
  return {
    ...network,
    letter: String.fromCharCode(65 + index),
    trained: packed.sigma === null ? packed.title : `sigma ${packed.sigma}`,
    sigma: packed.sigma,
    latent: packed.latent,
  };
}

// The best linear estimate, told sigma: along a principal component of variance v keep v / (v + sigma^2)
function makeWiener(prior, noiseMean) {
  const mean = floatsOf(prior.mean);
  const components = floatsOf(prior.components); // (k, pixels)
  return (noisy, sigma) => {
    const gain = (variance) => (sigma > 0 ? variance / (variance + sigma ** 2) : 1);
    const rest = gain(prior.rest);
    const off = noisy.map((pixel, i) => pixel - noiseMean - mean[i]);
    const along = multiply(components, off).map((length, i) => length * (gain(prior.variances[i]) - rest));
    return multiplyTransposed(components, along).map((pixel, i) => clipped(mean[i] + rest * off[i] + pixel));
  };
}
