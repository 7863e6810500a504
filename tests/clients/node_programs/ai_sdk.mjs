// Vercel's AI SDK. The argument names the provider: "openai" or "openai-compatible".
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage, generateText, streamText } from "ai";
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

// The SDK sends edits as forms, in which it writes objects as "[object Object]", unless they are JSON already.
function writeObjectsAsJson(fields) {
  const isObject = (value) => typeof value === "object" && !Array.isArray(value);
  const write = ([name, value]) => [name, isObject(value) ? JSON.stringify(value) : value];
  return Object.fromEntries(Object.entries(fields ?? {}).map(write));
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

// The arguments for a text model with OpenAI's tool for images.
function makeTextArguments(call) {
  const { url, key, params, images = [], previous_response_id: previousResponseId } = call;
  const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
  const { size, quality } = params;
  const files = decodeFiles({ images }).images.map((image) => ({ type: "image", image }));
  return {
    model: openai.responses("gpt-5"),
    messages: [{ role: "user", content: [{ type: "text", text: params.prompt }, ...files] }],
    tools: { image_generation: openai.tools.imageGeneration({ size, quality }) },
    providerOptions: { openai: { ...(previousResponseId && { previousResponseId }) } },
  };
}

function serializeToolResults(toolResults, providerMetadata) {
  const images = toolResults.filter(({ toolName }) => toolName === "image_generation");
  return { id: providerMetadata.openai.responseId, data: images.map(({ output }) => ({ b64_json: output.result })) };
}

async function respond(call) {
  const { toolResults, providerMetadata } = await generateText(makeTextArguments(call));
  return serializeToolResults(toolResults, providerMetadata);
}

async function streamResponse(call) {
  let failure;
  const result = streamText({ ...makeTextArguments(call), onError: ({ error }) => (failure = error) });
  let partCount = 0;
  for await (const _ of result.fullStream) partCount += 1;
  if (failure) throw failure;
  return { event_count: partCount, ...serializeToolResults(await result.toolResults, await result.providerMetadata) };
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
    const written = { ...call, extra: writeObjectsAsJson(call.extra) };
    return makeImages(written, { text: call.params.prompt, images, mask });
  },
  respond,
  stream_response: streamResponse,
};

await answerCalls(operations, describeError);
