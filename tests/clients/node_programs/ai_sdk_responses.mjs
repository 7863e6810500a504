// Makes images with the image tool of Vercel's AI SDK, which uses the Responses API, and prints the results as one JSON
// object.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const openai = createOpenAI({ baseURL: process.argv[2], apiKey: "igw_sandbox" });
const options = {
  model: openai.responses("gpt-5"),
  tools: { image_generation: openai.tools.imageGeneration({ outputFormat: "webp", quality: "low" }) },
};
const question = { role: "user", content: "a lighthouse" };

function listImages(result) {
  return result.staticToolResults.map((toolResult) => toolResult.output.result);
}

const generated = await generateText({ ...options, messages: [question] });
const answer = { role: "user", content: "the same at night" };
const edited = await generateText({ ...options, messages: [question, ...generated.response.messages, answer] });
const parts = [];
const stream = streamText({ ...options, prompt: "a lighthouse" });
for await (const part of stream.fullStream) parts.push(part.type);
const streamed = (await stream.staticToolResults).map((toolResult) => toolResult.output.result);
const images = { generated: listImages(generated), edited: listImages(edited), streamed };
console.log(JSON.stringify({ images, parts, reason: generated.finishReason, text: generated.text }));
