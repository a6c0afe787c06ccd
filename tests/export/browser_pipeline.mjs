// Runs pipelines of transformers.js on what standard input names, and writes their results to standard output.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { modules, runs } = JSON.parse(readFileSync(0, "utf8"));
const library = `${modules}/@huggingface/transformers/dist/transformers.node.mjs`;
const { env, pipeline } = await import(pathToFileURL(library));
env.allowRemoteModels = false;
env.localModelPath = "";

const results = [];
for (const { folder, task, dtype, texts, options } of runs) {
    const run = await pipeline(task, folder, dtype ? { dtype } : {});
    const ids = texts.map((text) => run.tokenizer(text, { return_tensor: false, truncation: true }).input_ids);
    const outputs = [];
    for (const text of texts) outputs.push(await run(text, options));
    results.push({ ids, outputs, batched: await run(texts, options) });
    await run.dispose();
}
process.stdout.write(JSON.stringify(results));
