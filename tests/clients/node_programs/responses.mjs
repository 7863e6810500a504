// Makes images with the Responses API of the gateway at the URL in argv, and prints what the SDK parsed as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "igw_sandbox" });
const tool = { type: "image_generation", quality: "low" };
const order = { model: "gpt-5", input: "a lighthouse", tools: [tool] };

async function catchError(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, message } = error;
    return { kind: error.constructor.name, status, code, param, message };
  }
  return null;
}

async function poll(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function listTypes(stream) {
  const types = [];
  for await (const event of stream) types.push(event.type);
  return types;
}

const generated = await client.responses.create({ ...order, tools: [{ ...tool, size: "1536x1024" }] });
const content = [
  { type: "input_text", text: "at night" },
  { type: "input_image", image_url: process.argv[3], detail: "auto" },
];
const message = { role: "user", content: [{ type: "input_text", text: "at night" }] };
const queued = await client.responses.create({ ...order, background: true });
// The SDK's stream keeps no events for a later reader, so it is read at once.
const stream = client.responses.stream(order);
const streamed = await listTypes(stream);
const results = {
  generated,
  edited: await client.responses.create({ ...order, input: "at night", previous_response_id: generated.id }),
  edited_input: await client.responses.create({ ...order, input: [{ role: "user", content }] }),
  edited_call: await client.responses.create({ ...order, input: [message, generated.output[0]] }),
  polled: await poll(queued.id),
  streamed,
  streamed_final: await stream.finalResponse(),
  resumed: await listTypes(await client.responses.retrieve(queued.id, { stream: true, starting_after: 6 })),
  no_tool: await catchError(() => client.responses.create({ ...order, tools: [] })),
};
await client.responses.delete(queued.id);
results.deleted = await catchError(() => client.responses.retrieve(queued.id));
console.log(JSON.stringify(results));
