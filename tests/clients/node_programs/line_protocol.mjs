// The protocol of the clients' programs: a call per line of input as JSON, its result or error per line of output.
import { Buffer } from "node:buffer";
import { createInterface } from "node:readline";

export async function answerCalls(operations, describeError) {
  for await (const line of createInterface({ input: process.stdin })) {
    const call = JSON.parse(line);
    let result;
    try {
      result = await operations[call.operation](call);
    } catch (error) {
      result = { error: { kind: error.constructor.name, message: error.message, ...describeError(error) } };
    }
    console.log(JSON.stringify(result));
  }
}

// The input images of a call, and its mask or undefined, as bytes.
export function decodeFiles(call) {
  const decode = (text) => Buffer.from(text, "base64");
  return { images: call.images.map(decode), mask: call.mask && decode(call.mask) };
}

// The gateway's own response headers.
export function selectHeaders(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("x-igw-")));
}

// The tool of a Responses request, with the parameters of the image.
export function makeImageTool({ params: { prompt, ...others } }) {
  return { type: "image_generation", ...others };
}
