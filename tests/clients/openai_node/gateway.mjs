// Orders from the gateway at the URL in argv with OpenAI's own node SDK, and prints what it parsed from each response as
// one JSON object.
import OpenAI, { toFile } from "openai";
import { Blob, Buffer } from "node:buffer";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "igw_sandbox" });
const order = { model: "gpt-image-2", prompt: "a lighthouse" };

async function catchError(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, type, requestID, message } = error;
    return { kind: error.constructor.name, status, code, param, type, requestID, message };
  }
  return null;
}

async function readStream(call) {
  const events = [];
  for await (const event of await call()) events.push(event);
  return events;
}

// Parameters that the SDK's types do not have are passed through.
const wide = { ...order, n: 2, resolution: "2k", aspect_ratio: "16:9", max_price: "0.15", provider: { only: ["runapi"] } };
const { data: generated, response } = await client.images.generate(wide).withResponse();
const [image, mask] = process.argv.slice(4).map((text) => Buffer.from(text, "base64"));
const results = {
  edited: await client.images.edit({ ...order, image: await toFile(image, "cat.png"), mask: await toFile(mask, "mask.png") }),
  edited_list: await client.images.edit({ ...order, image: [new File([new Blob([image])], "blob"), await toFile(image)], n: 2 }),
  edited_nothing: await catchError(async () => client.images.edit({ ...order, image: await toFile(Buffer.alloc(0), "a.png") })),
  hasty_edit: await client
    .withOptions({ timeout: 1000, maxRetries: 5 })
    .images.edit({ ...order, prompt: process.argv[3], image: await toFile(image, "cat.png") }),
  streamed: await readStream(() => client.images.generate({ ...order, n: 2, quality: "low", stream: true })),
  streamed_edit: await readStream(async () =>
    client.images.edit({ ...order, image: await toFile(image, "cat.png"), stream: true }),
  ),
  models: (await client.models.list()).data,
  aliased_model: await client.models.retrieve("gpt-image-1"),
  unknown_model: await catchError(() => client.models.retrieve("fal-ai/flux/dev")),
  wrong_stream: await catchError(() => client.images.generate({ ...order, size: "17x17", stream: true })),
  generated,
  headers: Object.fromEntries([...response.headers].filter(([name]) => name.startsWith("x-igw-"))),
  wrong_size: await catchError(() => client.images.generate({ ...order, size: "17x17" })),
  wrong_field: await catchError(() => client.images.generate({ ...order, promt: "a" })),
  wrong_model: await catchError(() => client.images.generate({ ...order, model: "no/such" })),
  wrong_key: await catchError(() => client.withOptions({ apiKey: "other" }).images.generate(order)),
  too_cheap: await catchError(() => client.images.generate({ ...order, max_price: "0.001" })),
  // Less than the order's latency: the SDK times out and retries. On a busy machine a retry may time out, too.
  hasty: await client.withOptions({ timeout: 1000, maxRetries: 5 }).images.generate({ ...order, prompt: process.argv[3] }),
};
console.log(JSON.stringify(results));
