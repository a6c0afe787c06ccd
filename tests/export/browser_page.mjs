// Runs pipelines of transformers.js in headless Chromium, as a page without any setting would.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { modules, chromium: executablePath, profile, url, runs } = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = (await import(pathToFileURL(`${modules}/playwright-core/index.js`))).default;
const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: [
        ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
});
const page = await context.newPage();
const requests = [];
page.on("request", (request) => requests.push(request.url()));
await page.goto(url);
const outputs = await page.evaluate(async (wanted) => {
    const library = "/modules/@huggingface/transformers";
    const { env, pipeline } = await import(`${library}/dist/transformers.min.js`);
    const nested = await fetch(`${library}/node_modules/onnxruntime-web/package.json`);
    env.allowRemoteModels = false;
    env.allowLocalModels = true;
    env.localModelPath = "/models/";
    env.backends.onnx.wasm.wasmPaths = `${nested.ok ? library : ""}/${nested.ok ? "node_modules" : "modules"}/onnxruntime-web/dist/`;
    const found = [];
    for (const { name, task, texts, options } of wanted) {
        const run = await pipeline(task, name);
        for (const text of texts) found.push(await run(text, options));
    }
    return found;
}, runs);
await context.close();
process.stdout.write(JSON.stringify({ outputs, requests }));
