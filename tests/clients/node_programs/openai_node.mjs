// OpenAI's SDK for Node. The argument names the package, so that several major versions can be installed.
import { Buffer } from "node:buffer";
import { setTimeout } from "node:timers/promises";
import { answerCalls, decodeFiles, makeImageTool, selectHeaders } from "./line_protocol.mjs";

const { default: OpenAI, toFile } = await import(process.argv[2]);

function makeClient({ url, key, max_retries: maxRetries, timeout }) {
  const options = { ...(maxRetries !== undefined && { maxRetries }), ...(timeout && { timeout: timeout * 1000 }) };
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: key, ...options });
}

async function makeEditBody(call) {
  const { images, mask } = decodeFiles(call);
  const files = await Promise.all(images.map((image, index) => toFile(image, `${index}.png`)));
  const image = files.length === 1 ? files[0] : files;
  return { ...call.params, ...call.extra, image, ...(mask && { mask: await toFile(mask, "mask.png") }) };
}

async function serializeImages(request) {
  const { data, response } = await request.withResponse();
  return { ...data, headers: selectHeaders(Object.fromEntries(response.headers)) };
}

async function collectEvents(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return { events };
}

function makeResponseBody(call) {
  const images = (call.images ?? []).map((image) => ({
    type: "input_image",
    image_url: `data:image/png;base64,${image}`,
    detail: "auto",
  }));
  const content = [{ type: "input_text", text: call.params.prompt }, ...images];
  const { previous_response_id } = call;
  return { model: "gpt-5", input: [{ role: "user", content }], tools: [makeImageTool(call)], previous_response_id };
}

function serializeResponse({ id, output }) {
  const images = output.filter(({ type }) => type === "image_generation_call");
  return { id, data: images.map(({ result }) => ({ b64_json: result })) };
}

async function streamResponse(call) {
  const stream = makeClient(call).responses.stream(makeResponseBody(call));
  const { events } = await collectEvents(stream);
  return { event_count: events.length, ...serializeResponse(await stream.finalResponse()) };
}

async function runBatch(call) {
  const client = makeClient(call);
  const file = await client.files.create({ file: await toFile(Buffer.from(call.lines), "requests.jsonl"), purpose: "batch" });
  let batch = await client.batches.create({ input_file_id: file.id, endpoint: call.endpoint, completion_window: "24h" });
  while (["validating", "in_progress", "finalizing"].includes(batch.status)) {
    await setTimeout(100);
    batch = await client.batches.retrieve(batch.id);
  }
  const output = await (await client.files.content(batch.output_file_id)).text();
  return { status: batch.status, results: output.trim().split("\n").map((line) => JSON.parse(line)) };
}

const operations = {
  generate: (call) => serializeImages(makeClient(call).images.generate({ ...call.params, ...call.extra })),
  edit: async (call) => serializeImages(makeClient(call).images.edit(await makeEditBody(call))),
  stream: async (call) => collectEvents(await makeClient(call).images.generate({ ...call.params, stream: true })),
  stream_edit: async (call) =>
    collectEvents(await makeClient(call).images.edit({ ...(await makeEditBody(call)), stream: true })),
  list_models: async (call) => ({ models: (await makeClient(call).models.list()).data.map((model) => model.id) }),
  get_model: async (call) => {
    const { data, response } = await makeClient(call).models.retrieve(call.model).withResponse();
    return { model: data, headers: selectHeaders(Object.fromEntries(response.headers)) };
  },
  respond: async (call) => serializeResponse(await makeClient(call).responses.create(makeResponseBody(call))),
  stream_response: streamResponse,
  run_batch: runBatch,
};

await answerCalls(operations, ({ status, code, param, requestID, error }) => ({
  status,
  code,
  param,
  request_id: requestID,
  ...(error?.message && { message: error.message }),
}));
