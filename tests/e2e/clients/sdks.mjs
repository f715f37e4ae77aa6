// What the SDKs for Node get from the stack; test_clients.py reads the line of JSON.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const model = process.env.MODEL;
const said = (text) => [{ role: "user", content: text }];
const REPEAT = said("Repeat: The code is blue-whale-4711.");
const schema = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris"] } },
  required: ["city"],
  additionalProperties: false,
};
const found = {};

const openai = new OpenAI({ maxRetries: 0 });
const chat = openai.chat.completions;

found.answer = (await chat.create({ model, messages: REPEAT })).choices[0].message.content;

found.streamed = "";
for await (const chunk of await chat.create({ model, messages: REPEAT, stream: true })) {
  found.streamed += chunk.choices[0]?.delta?.content ?? "";
}

const tool = { type: "function", function: { name: "visit", strict: true, parameters: schema } };
const called = await chat.create({
  model,
  messages: said("Visit Paris."),
  tools: [tool],
  tool_choice: { type: "function", function: { name: "visit" } },
});
found.tool = JSON.parse(called.choices[0].message.tool_calls[0].function.arguments);

const structured = await chat.parse({
  model,
  messages: said("Which city?"),
  response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } },
});
found.structured = JSON.parse(structured.choices[0].message.content);

found.responses = (await openai.responses.create({ model, input: REPEAT })).output_text;

const anthropic = new Anthropic({ apiKey: null, maxRetries: 0 });
const limit = { model, max_tokens: 100 };

const message = await anthropic.messages.create({ ...limit, messages: REPEAT });
found.message = message.content[0].text;

const stream = anthropic.messages.stream({
  ...limit,
  messages: said("Visit Paris."),
  tools: [{ name: "visit", strict: true, input_schema: schema }],
  tool_choice: { type: "tool", name: "visit" },
});
const use = (await stream.finalMessage()).content.find((block) => block.type === "tool_use");
found.tool_use = use.input;

const result = { type: "tool_result", tool_use_id: use.id, content: "The code is blue-whale-4711." };
const after = await anthropic.messages.create({
  ...limit,
  messages: [...said("Visit Paris."), { role: "assistant", content: [use] }, { role: "user", content: [result] }],
});
found.tool_result = after.content[0].text;

console.log(JSON.stringify(found));
