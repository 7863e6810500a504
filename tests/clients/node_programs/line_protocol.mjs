// The protocol of the clients' programs: a call per line of input as JSON, its result or error per line of output.
import { Buffer } from "node:buffer";
import { symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

export async function answerCalls(operations, describeError) {
  for await (const line of createInterface({ input: process.stdin })) {
    const call = JSON.parse(line);
    let result;
    try {
      result = await { ...operations, run_snippet: runSnippet }[call.operation](call);
    } catch (error) {
      result = { error: { kind: error.constructor.name, message: error.message, ...describeError(error) } };
    }
    console.log(JSON.stringify(result));
  }
}

// Runs a file in its folder, within this process. Node finds packages from the folder of a file.
async function runSnippet({ path }) {
  process.chdir(dirname(path));
  symlinkSync(join(import.meta.dirname, "node_modules"), "node_modules");
  await import(pathToFileURL(path));
  return {};
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
