// Vercel's AI SDK. The argument names the provider: "openai" or "openai-compatible".
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";
import { answerCalls, decodeFiles, selectHeaders } from "./line_protocol.mjs";

const isCompatible = process.argv[2] === "openai-compatible";

function makeModel({ url, key, params: { model } }) {
  const options = { baseURL: `${url}/v1`, apiKey: key };
  return isCompatible
    ? createOpenAICompatible({ ...options, name: "igw" }).imageModel(model)
    : createOpenAI(options).image(model);
}

// The provider for OpenAI has names of its own for OpenAI's parameters; the other passes all on.
function makeProviderOptions({ params: { model, prompt, n, size, ...others }, extra }) {
  if (isCompatible) return { igw: { ...others, ...extra } };
  const toCamelCase = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  return { openai: Object.fromEntries(Object.entries(others).map(([name, value]) => [toCamelCase(name), value])) };
}

async function makeImages(call, prompt) {
  const { n, size } = call.params;
  const result = await generateImage({
    model: makeModel(call),
    prompt,
    n,
    size,
    ...(call.max_retries !== undefined && { maxRetries: call.max_retries }),
    providerOptions: makeProviderOptions(call),
  });
  const [{ headers }] = result.responses;
  return {
    data: result.images.map(({ base64 }) => ({ b64_json: base64 })),
    headers: selectHeaders(headers),
    warnings: result.warnings.map(String),
  };
}

function describeError(error) {
  const { statusCode, responseBody, message } = error.lastError ?? error;
  let details = {};
  try {
    details = JSON.parse(responseBody).error;
  } catch {
    // The response had no body.
  }
  return { status: statusCode, message, code: details.code, param: details.param };
}

const operations = {
  generate: (call) => makeImages(call, call.params.prompt),
  edit: (call) => {
    const { images, mask } = decodeFiles(call);
    return makeImages(call, { text: call.params.prompt, images, mask });
  },
};

await answerCalls(operations, describeError);
