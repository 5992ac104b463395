// Noise, networks, the two estimates that need no network, and how good an image is.
// An image is a Float32Array (channels * height * width); clean ones lie in [0, 1].

const NEGATIVE_SLOPE = 0.3; // of LeakyReLU, where settings say no other; this and the next two as in model/network.py
const DATA_STD = 0.35;
const SIGMAS = [0.01, 100];
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

// One dense layer each way: of an image to its code, and back
function makeLayers(settings, weights) {
  const slope = settings.negative_slope ?? NEGATIVE_SLOPE;
  const encoder = weights["encoder.weight"]; // (latent, pixels)
  const decoder = weights["decoder.weight"]; // (pixels, latent)
  const encoderBias = weights["encoder.bias"];
  const decoderBias = weights["decoder.bias"];
  const latent = encoderBias.length;
  const pixels = decoderBias.length;
  return {
    encode: (image, scale) =>
      multiply(encoder, image).map((sum, unit) => {
        const answer = scale * sum + encoderBias[unit];
        return answer < 0 ? slope * answer : answer;
      }),
    decode: (code) => multiply(decoder, code).map((sum, pixel) => sigmoid(sum + decoderBias[pixel])),
    filter: (unit) => encoder.subarray(unit * pixels, (unit + 1) * pixels),
    column: (unit) => decoderBias.map((_, pixel) => decoder[pixel * latent + unit]),
  };
}

// The networks by kind: of settings and weights by name, a function each for
// - denoise(noisy, sigma), an image, and encode(noisy, sigma), its code; sigma is for networks that are told it
// - filter(unit) and column(unit), what a unit of the code sees and what it paints: weights of the shape of an image
const NETWORKS = {
  dense(settings, weights) {
    const { decode, ...layers } = makeLayers(settings, weights);
    const encode = (noisy) => layers.encode(noisy, settings.input_scale);
    return { ...layers, encode, denoise: (noisy) => decode(encode(noisy)) };
  },

  sigma_aware(settings, weights) {
    const { decode, ...layers } = makeLayers(settings, weights);
    const latent = weights["encoder.bias"].length;
    // The gain of each unit, the shift of each, and the gate, of log sigma
    const condition = (logSigma) => {
      const sums = weights["level.weight"].map((weight, i) => weight * logSigma + weights["level.bias"][i]);
      const hidden = sums.map((sum) => sum * sigmoid(sum));
      return multiply(weights["condition.weight"], hidden).map((sum, i) => sum + weights["condition.bias"][i]);
    };
    // The code, and the share that the input has in the output
    const look = (noisy, sigma) => {
      const level = Math.min(SIGMAS[1], Math.max(SIGMAS[0], sigma));
      const conditions = condition(Math.log(level));
      const answers = layers.encode(noisy, settings.input_scale / Math.hypot(level, DATA_STD));
      const code = answers.map((answer, unit) => (1 + conditions[unit]) * answer + conditions[latent + unit]);
      return { code, share: sigmoid(conditions[2 * latent]) };
    };
    return {
      ...layers,
      encode: (noisy, sigma) => look(noisy, sigma).code,
      denoise(noisy, sigma) {
        const { code, share } = look(noisy, sigma);
        return decode(code).map((pixel, i) => (1 - share) * pixel + share * clipped(noisy[i]));
      },
    };
  },
};

// `levelOf` says of an image and its sigma which sigma a network that takes one is given
function makeModel(packed, index, levelOf) {
  const entries = Object.entries(packed.weights).map(([name, value]) => [name, floatsOf(value)]);
  const network = NETWORKS[packed.network.kind](packed.network, Object.fromEntries(entries));
  const level = packed.takes_sigma ? levelOf : (image, sigma) => sigma;
  return {
    ...network,
    encode: (image, sigma) => network.encode(image, level(image, sigma)),
    denoise: (image, sigma) => network.denoise(image, level(image, sigma)),
    letter: String.fromCharCode(65 + index),
    trained: packed.trained,
    sigma: packed.sigma,
    takesSigma: packed.takes_sigma,
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
