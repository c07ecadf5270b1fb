// OpenAI's SDK for Node, unmodified: chat, stream, structured output, tools, embeddings, files and batches, errors.
import OpenAI, { toFile } from "openai";

const { CHAT_MODEL: CHAT, EMBEDDING_MODEL: EMBEDDING, SLOW_KEY, WITH_BATCHES } = process.env;
const ASK = [{ role: "user", content: "Name three birds." }];
const SCHEMA = {
  type: "object",
  properties: { animal: { enum: ["cat", "bird"] }, legs: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["animal", "legs"],
  additionalProperties: false,
};

const client = (more = {}) => new OpenAI({ maxRetries: 0, ...more });
const ask = (more = {}, options = {}) =>
  client(options).chat.completions.create({ model: CHAT, messages: ASK, max_tokens: 8, ...more });

async function errorOf(call, tries = 1) {
  for (let n = 0; n < tries; n++) {
    try {
      await call();
    } catch (error) {
      const classes = [];
      for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) classes.push(`openai.${kind.name}`);
      return { classes, status: error.status ?? null, message: error.message };
    }
  }
  return { classes: [], status: null, message: "nothing was raised" };
}

const checks = {
  async chat() {
    const answer = await ask();
    const used = answer.usage;
    return { text: answer.choices[0].message.content, prompt: used.prompt_tokens, completion: used.completion_tokens };
  },
  async stream() {
    const parts = [];
    let used = null;
    for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
      for (const choice of chunk.choices) if (choice.delta.content) parts.push(choice.delta.content);
      used = chunk.usage ?? used;
    }
    return { text: parts.join(""), pieces: parts.length, prompt: used.prompt_tokens, completion: used.completion_tokens };
  },
  async structured() {
    const answer = await client().chat.completions.parse({
      model: CHAT,
      messages: [{ role: "user", content: "Think of a bird." }],
      max_tokens: 200,
      temperature: 0,
      response_format: { type: "json_schema", json_schema: { name: "animal", schema: SCHEMA, strict: true } },
    });
    return JSON.parse(answer.choices[0].message.content);
  },
  tools: () => errorOf(() => ask({ tools: [{ type: "function", function: { name: "animal", parameters: SCHEMA } }] })),
  async embeddings() {
    if (!EMBEDDING) return { none: true };
    const input = ["A bird sings.", "A song of birds.", "The invoice is due."];
    const answer = await client().embeddings.create({ model: EMBEDDING, input });
    return { vectors: answer.data.map((row) => row.embedding), prompt: answer.usage.prompt_tokens };
  },
  async batches() {
    if (!WITH_BATCHES) return { none: true };
    const row = { custom_id: "one", method: "POST", url: "/v1/chat/completions", body: { model: CHAT, messages: ASK, max_tokens: 4 } };
    const file = await client().files.create({ file: await toFile(Buffer.from(JSON.stringify(row) + "\n"), "rows.jsonl"), purpose: "batch" });
    let batch = await client().batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
    const deadline = Date.now() + 60_000;
    while (!["completed", "failed", "expired", "cancelled"].includes(batch.status) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      batch = await client().batches.retrieve(batch.id);
    }
    const output = batch.output_file_id ? await (await client().files.content(batch.output_file_id)).text() : "";
    return { status: batch.status, rows: output.trim().split("\n").map((line) => (line ? JSON.parse(line) : null)) };
  },
  unauthorized: () => errorOf(() => ask({}, { apiKey: "sk-wrong" })),
  not_found: () => errorOf(() => ask({ model: "no-such-model" })),
  throttled: () => errorOf(() => ask({ max_tokens: 1 }, { apiKey: SLOW_KEY }), 2),
};

for (const [check, call] of Object.entries(checks)) {
  let seen;
  try {
    seen = await call();
  } catch (error) {
    seen = { failed: String(error.stack).slice(-3000) };
  }
  console.log(JSON.stringify({ check, ...seen }));
}
