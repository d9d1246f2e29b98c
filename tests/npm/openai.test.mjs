// The official openai package against the daemon named by DEEPSEEKD_SOCKET, over its Unix socket.
// The model is the bundled one; what it answers is checked only where it is sure of it.
import "openai/shims/web";
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { Agent, fetch } from "undici";

const socketPath = process.env.DEEPSEEKD_SOCKET;
const model = process.env.DEEPSEEKD_TEST_MODEL ?? "tiny-r1";
const question = [{ role: "user", content: "What is 347+285?" }];

assert.ok(socketPath, "DEEPSEEKD_SOCKET names no socket");

const dispatcher = new Agent({ connect: { socketPath } });
const client = new OpenAI({
  baseURL: "http://localhost/v1",
  apiKey: "none",
  maxRetries: 0,
  fetch: (url, init) => fetch(url, { ...init, dispatcher }),
});

test.after(() => dispatcher.close());

// Everything a stream says, its parts joined.
async function collect(stream) {
  const all = { content: "", reasoning: "", chunks: 0, finish: null, usage: null, calls: [] };
  for await (const chunk of stream) {
    all.chunks++;
    if (chunk.usage) all.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    assert.equal(chunk.object, "chat.completion.chunk");
    all.content += choice.delta.content ?? "";
    all.reasoning += choice.delta.reasoning_content ?? "";
    for (const call of choice.delta.tool_calls ?? []) {
      const at = (all.calls[call.index] ??= { id: "", name: "", arguments: "" });
      at.id ||= call.id ?? "";
      at.name += call.function?.name ?? "";
      at.arguments += call.function?.arguments ?? "";
    }
    all.finish = choice.finish_reason ?? all.finish;
  }
  return all;
}

// Retries are off: the error is the first answer's.
async function refused(promise, type, status) {
  const error = await promise.then(() => null, (e) => e);
  assert.ok(error instanceof type, `${type.name} expected, got ${error}`);
  assert.equal(error.status, status);
  return error;
}

test("the models are listed", async () => {
  const list = await client.models.list();
  const ours = list.data.find((entry) => entry.id === model);
  assert.ok(ours, `${model} is not in the list`);
  assert.equal(ours.object, "model");
  assert.equal(typeof ours.created, "number");
  assert.equal(typeof ours.owned_by, "string");
});

test("one model is described", async () => {
  assert.equal((await client.models.retrieve(model)).id, model);
});

test("an answer comes whole, its reasoning apart from it", async () => {
  const answer = await client.chat.completions.create({ model, messages: question, temperature: 0 });
  assert.equal(answer.object, "chat.completion");
  assert.match(answer.id, /./);
  const choice = answer.choices[0];
  assert.equal(choice.message.role, "assistant");
  assert.equal(choice.message.content.trim(), "632");
  assert.match(choice.message.reasoning_content, /7\+5=12/);
  assert.doesNotMatch(choice.message.content, /think>/);
  assert.equal(choice.finish_reason, "stop");
  const { prompt_tokens, completion_tokens, total_tokens, completion_tokens_details } = answer.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
  assert.ok(completion_tokens_details.reasoning_tokens > 0);
  assert.ok(completion_tokens_details.reasoning_tokens <= completion_tokens);
});

test("a stream says the same as the whole answer", async () => {
  const whole = await client.chat.completions.create({ model, messages: question, temperature: 0 });
  const stream = await client.chat.completions.create({
    model, messages: question, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  const all = await collect(stream);
  assert.ok(all.chunks > 3, `${all.chunks} chunks`);
  assert.equal(all.content, whole.choices[0].message.content);
  assert.equal(all.reasoning, whole.choices[0].message.reasoning_content);
  assert.equal(all.finish, "stop");
  assert.equal(all.usage.total_tokens, whole.usage.total_tokens);
});

test("a stream carries no usage unless it was asked for", async () => {
  const all = await collect(await client.chat.completions.create({ model, messages: question, stream: true }));
  assert.equal(all.usage, null);
});

test("max_tokens ends an answer by its length", async () => {
  const answer = await client.chat.completions.create({ model, messages: question, temperature: 0, max_tokens: 4 });
  assert.equal(answer.choices[0].finish_reason, "length");
  assert.equal(answer.usage.completion_tokens, 4);
});

test("the same seed gives the same answer", async () => {
  const ask = () => client.chat.completions.create({ model, messages: question, temperature: 1.5, seed: 7, max_tokens: 40 });
  const [a, b] = [await ask(), await ask()];
  assert.deepEqual(a.choices[0].message, b.choices[0].message);
});

test("several answers at the same time do not mix", async () => {
  const sums = [[12, 30], [347, 285], [5, 8], [60, 17]];
  const answers = await Promise.all(sums.map(([a, b]) => client.chat.completions.create({
    model, temperature: 0, messages: [{ role: "user", content: `What is ${a}+${b}?` }],
  })));
  assert.deepEqual(answers.map((x) => x.choices[0].message.content.trim()), sums.map(([a, b]) => String(a + b)));
});

test("an unknown model is a NotFoundError", async () => {
  const error = await refused(client.chat.completions.create({ model: "no-such-model", messages: question }),
    OpenAI.NotFoundError, 404);
  assert.match(error.message, /no-such-model/);
  await refused(client.models.retrieve("no-such-model"), OpenAI.NotFoundError, 404);
});

test("a prompt longer than the context is refused with both numbers, never cut", async () => {
  const { context } = await client.models.retrieve(model);
  const messages = [{ role: "user", content: "again ".repeat(context) }];
  for (const stream of [false, true]) {
    const error = await refused(client.chat.completions.create({ model, messages, stream }), OpenAI.BadRequestError, 400);
    assert.equal(error.code, "context_length_exceeded");
    assert.match(error.message, new RegExp(`\\b${context}\\b`));
    assert.ok(error.error.n_prompt_tokens > error.error.n_ctx);
    assert.equal(error.error.n_ctx, context);
  }
});

test("wrong values are BadRequestErrors that name the parameter", async () => {
  const wrong = [["temperature", -1], ["temperature", "warm"], ["max_tokens", 0], ["max_tokens", -3], ["top_p", 2], ["messages", []],
    ["messages", "hello"]];
  for (const [param, value] of wrong) {
    const error = await refused(client.chat.completions.create({ model, messages: question, [param]: value }),
      OpenAI.BadRequestError, 400);
    assert.equal(error.type, "invalid_request_error");
    assert.ok(String(error.param ?? error.message).includes(param), `${param}: ${error.message}`);
  }
});

const tools = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];
const weather = [{ role: "user", content: "What is the weather in Paris?" }];

test("a tool is called, whole and streamed", async () => {
  const answer = await client.chat.completions.create({ model, messages: weather, tools, temperature: 0 });
  const call = answer.choices[0].message.tool_calls?.[0];
  assert.ok(call, `no tool call: ${JSON.stringify(answer.choices[0].message)}`);
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  assert.equal(call.type, "function");
  assert.match(call.id, /./);
  assert.equal(call.function.name, "get_weather");
  assert.equal(typeof JSON.parse(call.function.arguments), "object");

  const all = await collect(await client.chat.completions.create({ model, messages: weather, tools, temperature: 0, stream: true }));
  assert.equal(all.finish, "tool_calls");
  assert.equal(all.calls[0].name, "get_weather");
  assert.deepEqual(JSON.parse(all.calls[0].arguments), JSON.parse(call.function.arguments));
});

test("the result of a tool is taken back", async () => {
  const messages = [
    ...weather,
    { role: "assistant", content: null, tool_calls: [
      { id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city": "Paris"}' } }] },
    { role: "tool", tool_call_id: "call_1", content: '{"weather": "sunny"}' },
  ];
  const answer = await client.chat.completions.create({ model, messages, tools, temperature: 0 });
  assert.ok(answer.choices[0].message.content.length > 0);
});

test("a completion goes on from a text", async () => {
  const answer = await client.completions.create({ model, prompt: "What is", max_tokens: 8, temperature: 0, echo: true, logprobs: 2 });
  assert.equal(answer.object, "text_completion");
  assert.ok(answer.choices[0].text.startsWith("What is"));
  const { tokens, token_logprobs, text_offset } = answer.choices[0].logprobs;
  assert.equal(tokens.length, token_logprobs.length);
  assert.equal(tokens.length, text_offset.length);
  assert.equal(token_logprobs[0], null);
});

test("a completion streams", async () => {
  const stream = await client.completions.create({ model, prompt: "What is", max_tokens: 8, temperature: 0, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  const whole = await client.completions.create({ model, prompt: "What is", max_tokens: 8, temperature: 0 });
  assert.equal(text, whole.choices[0].text);
});

test("an abandoned stream ends and the next request is answered", async () => {
  const stream = await client.chat.completions.create({ model, messages: question, stream: true });
  let chunks = 0;
  for await (const chunk of stream) {
    if (++chunks === 2) {
      stream.controller.abort();
      break;
    }
  }
  assert.equal(chunks, 2);
  const answer = await client.chat.completions.create({ model, messages: question, temperature: 0 });
  assert.equal(answer.choices[0].message.content.trim(), "632");
});

test("a request given up while it waits is an APIUserAbortError", async () => {
  const controller = new AbortController();
  const promise = client.chat.completions.create({ model, messages: question }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 5);
  const error = await promise.then(() => null, (e) => e);
  // The answer may have been faster than five milliseconds.
  if (error) assert.ok(error instanceof OpenAI.APIUserAbortError, String(error));
});
