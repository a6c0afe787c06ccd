// Opens a Space in headless Chromium, types what standard input names, and writes what the page shows to standard output.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { modules, chromium: executablePath, profile, url, models, lines } = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = (await import(pathToFileURL(`${modules}/playwright-core/index.js`))).default;
const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    viewport: { width: 760, height: 900 },
    args: [
        ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
});
const page = await context.newPage();
const seen = { hosts: [], errors: [] };
page.on("request", (request) => seen.hosts.push(new URL(request.url()).host));
page.on("pageerror", (error) => seen.errors.push(String(error)));
page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));

// Waits until the page has predicted, and explained if it does, what stands in the box.
const settled = (text, what = "text") =>
    page.waitForFunction(([name, wanted]) => document.body.dataset[name] === wanted, [what, text], { timeout: 60000 });
const dataset = (name) => page.evaluate((key) => document.body.dataset[key], name);

async function typed(text) {
    await page.fill("#text", text);
    await settled(text);
    return {
        milliseconds: Number(await dataset("milliseconds")),
        bars: await page.$$eval("#result li .name", (names) => names.map((name) => name.textContent)),
        values: await page.$$eval("#result li .value", (values) => values.map((value) => value.textContent)),
        words: await page.$$eval("#result .word", (words) =>
            words.map(({ textContent, dataset: { label }, title }) => [textContent, label, title]),
        ),
    };
}

async function labelled() {
    if (!(await page.$("#batch[open]"))) await page.click("#batch summary");
    await page.fill("#lines", lines.join("\n"));
    await page.click("#label-lines");
    await page.waitForSelector("#download:not([disabled])");
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    const rows = await page.$$eval("#table tbody tr", (found) =>
        found.map((row) => [...row.cells].map((cell) => cell.textContent)),
    );
    return { rows, csv: readFileSync(await download.path(), "utf8") };
}

await page.goto(url);
await page.waitForSelector("body[data-ready]", { timeout: 60000 });
const results = { models: [] };
for (const { folder, texts, explained } of models) {
    if (models.length > 1) await page.click(`#models button[data-folder="${folder}"]`);
    await page.waitForSelector(`body[data-model="${folder}"]`, { timeout: 60000 });
    const found = { predictions: [] };
    for (const text of texts) found.predictions.push(await typed(text));
    found.batch = await labelled();
    await page.click("#batch summary");
    await typed(explained);
    await settled(explained, "explained");
    found.moved = await page.$$eval("#why-text span", (words) => words.map((word) => [word.textContent, word.title]));
    if (await page.$("#result .word")) {
        await page.focus("#result .word.chosen");
        await page.keyboard.press("ArrowRight");
        found.chosen = await page.$eval("#result .word.chosen", (word) => Number(word.dataset.index));
        found.focused = await page.evaluate(() => Number(document.activeElement.dataset.index));
    }
    results.models.push(found);
}
const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
results.light = await colour();
await page.emulateMedia({ colorScheme: "dark" });
results.dark = await colour();
await page.setViewportSize({ width: 340, height: 700 });
results.overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
// From the top of the page, the keyboard reaches the text by itself.
await page.evaluate(() => document.activeElement.blur());
results.reached = [];
for (let step = 0; step < 8 && !results.reached.includes("text"); step += 1) {
    await page.keyboard.press("Tab");
    results.reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
}
await context.close();
process.stdout.write(JSON.stringify({ ...results, ...seen }));
