// The page: what is typed is labelled at once, and then explained.

import { Predictor, loadLibraries } from "./predictor.js";

const MOST_BARS = 10;
const MOST_ROWS = 100;
const EXPLAIN_AFTER = 150; // milliseconds without a key
const byId = (id) => document.getElementById(id);

let space, libraries, predictor;
const predictors = new Map();
let result = null; // of the text that is shown
let chosen = 0; // a tagger's word to explain
let running = false;
let waiting = false;
let timer = 0;
let table = [];

function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

function fail(error) {
    byId("problem").hidden = false;
    byId("problem").textContent = `This page does not work here: ${error.message ?? error}`;
    byId("result").setAttribute("aria-busy", "false");
    console.error(error);
}

const percent = (score) => `${(100 * score).toFixed(1)} %`;
const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
const hueOf = (entity, entities) => (210 + 137.5 * entities.indexOf(entity)) % 360;
const entityOf = (label) => (/^[BIES]-/u.test(label) ? label.slice(2) : label);
const isOutside = (label) => label === "O";

// Predicting

async function update() {
    waiting = true;
    if (running || !predictor) return;
    running = true;
    try {
        while (waiting) {
            waiting = false;
            const text = byId("text").value;
            const found = await predictor.predict(text);
            if (waiting) continue;
            result = { text, ...found };
            chosen = Math.min(chosen, Math.max(0, (found.words ?? []).length - 1));
            show();
        }
    } finally {
        running = false;
    }
    clearTimeout(timer);
    timer = setTimeout(() => explain().catch(fail), EXPLAIN_AFTER);
}

function show() {
    const { about } = predictor;
    const target = byId("result");
    if (about.task === "token-classification") target.replaceChildren(...taggedText());
    else if (target.querySelector(".bars") && target.dataset.model === about.folder) fillBars();
    else {
        target.replaceChildren(bars());
        fillBars();
    }
    target.dataset.model = about.folder;
    target.setAttribute("aria-busy", "false");
    const size = (about.bytes / 1e6).toFixed(1);
    byId("status").textContent =
        `${result.milliseconds.toFixed(1)} ms · ${result.tokens} tokens · model of ${size} MB, int8`;
    document.body.dataset.milliseconds = result.milliseconds;
    document.body.dataset.text = result.text;
}

function bars() {
    const rows = Array.from({ length: Math.min(MOST_BARS, predictor.about.labels.length) }, () =>
        element(
            "li",
            {},
            element("span", { className: "name" }),
            element("div", { className: "track" }, element("div")),
            element("span", { className: "value" }),
        ),
    );
    return element("ul", { className: "bars" }, ...rows);
}

function fillBars() {
    const isRegression = predictor.about.problem_type === "regression";
    const ordered = isRegression ? result.labels : [...result.labels].sort((one, other) => other.score - one.score);
    byId("result")
        .querySelectorAll("li")
        .forEach((row, number) => {
            const { label, score, applies } = ordered[number];
            const [name, track, value] = row.children;
            name.textContent = label;
            name.classList.toggle("applies", Boolean(applies));
            track.hidden = isRegression;
            track.firstChild.style.width = `${100 * score}%`;
            track.firstChild.classList.toggle("applies", Boolean(applies));
            value.textContent = isRegression ? score.toFixed(3) : percent(score);
        });
}

function taggedText() {
    const { text, words } = result;
    if (!words.length) return [element("p", { className: "quiet", textContent: "No words yet." })];
    const passage = element("p", { className: "passage", dir: "auto", lang: predictor.about.language ?? "" });
    const entities = [...new Set(predictor.about.labels.filter((label) => !isOutside(label)).map(entityOf))];
    const counts = new Map();
    let before = 0;
    words.forEach(({ start, end, label, score }, index) => {
        passage.append(text.slice(before, start));
        const word = element("span", {
            className: "word",
            tabIndex: index === chosen ? 0 : -1,
            textContent: text.slice(start, end),
            title: `${label} · ${percent(score)}`,
        });
        word.dataset.index = index;
        word.dataset.label = label;
        word.setAttribute("role", "button");
        word.setAttribute("aria-label", `${text.slice(start, end)}: ${label}`);
        word.classList.toggle("outside", isOutside(label));
        word.classList.toggle("chosen", index === chosen);
        word.style.setProperty("--hue", hueOf(entityOf(label), entities));
        passage.append(word);
        before = end;
        if (!isOutside(label)) counts.set(entityOf(label), (counts.get(entityOf(label)) ?? 0) + 1);
    });
    passage.append(text.slice(before));
    const legend = element("ul", { className: "legend" });
    for (const [entity, count] of [...counts].sort((one, other) => other[1] - one[1])) {
        const swatch = element("span", { className: "swatch" });
        swatch.style.setProperty("--hue", hueOf(entity, entities));
        legend.append(element("li", {}, swatch, `${entity} ${count}`));
    }
    return [passage, legend];
}

function choose(index) {
    if (!(index in (result?.words ?? []))) return;
    chosen = index;
    document.querySelectorAll("#result .word").forEach((word, position) => {
        word.classList.toggle("chosen", position === index);
        word.tabIndex = position === index ? 0 : -1;
        if (position === index) word.focus();
    });
    explain().catch(fail);
}

// Explaining

let explained = 0;

async function explain() {
    const number = ++explained;
    const shown = result;
    const { words, labels, text } = shown;
    const nothing = words ? words.length < 2 : !text.trim();
    byId("why").hidden = nothing;
    if (nothing) return;
    const best = words ? words[chosen] : labels.reduce((one, other) => (other.score > one.score ? other : one));
    const moved = await predictor.explain(text, best.index, {
        target: words ? chosen : null,
        isCurrent: () => number === explained && shown === result,
    });
    if (moved === null || shown !== result || number !== explained) return;
    const largest = Math.max(1e-6, ...moved.map((one) => Math.abs(one.moved)));
    const passage = byId("why-text");
    passage.lang = predictor.about.language ?? "";
    passage.replaceChildren();
    let before = 0;
    moved.forEach(({ start, end, moved: change }, index) => {
        const word = element("span", { textContent: text.slice(start, end), title: signed(change) });
        const strength = (0.75 * Math.abs(change)) / largest;
        word.style.background = `rgb(var(--${change < 0 ? "against" : "for"}) / ${strength.toFixed(3)})`;
        word.classList.toggle("chosen", Boolean(words) && index === chosen);
        passage.append(text.slice(before, start), word);
        before = end;
    });
    passage.append(text.slice(before));
    const strongest = [...moved].sort((one, other) => Math.abs(other.moved) - Math.abs(one.moved)).slice(0, 3);
    const listed = strongest.map((one) => `${text.slice(one.start, one.end)} ${signed(one.moved)}`).join(", ");
    const subject = words ? `“${text.slice(best.start, best.end)}” as ${best.label}` : best.label;
    byId("why-note").textContent =
        `Blue speaks for ${subject}, orange against it: the log-odds that are lost without a word. Strongest: ${listed}.` +
        (words ? " Choose another word above, by a click or with the arrow keys." : "");
    document.body.dataset.explained = text;
}

// Many texts

async function labelLines() {
    const lines = byId("lines").value.split(/\r?\n/u).filter((line) => line.trim());
    const current = predictor;
    const isTagger = current.about.task === "token-classification";
    table = [isTagger ? ["text", "labels"] : ["text", "label", "score"]];
    byId("label-lines").disabled = true;
    for (const [number, line] of lines.entries()) {
        const found = await current.predict(line);
        table.push(isTagger ? [line, taggedLine(line, found.words)] : [line, ...labelledLine(current, found.labels)]);
        if (number % 50 === 49) {
            byId("progress").textContent = `${number + 1} of ${lines.length}`;
            await new Promise((resume) => setTimeout(resume));
        }
    }
    byId("label-lines").disabled = false;
    byId("download").disabled = lines.length === 0;
    byId("progress").textContent = `${lines.length} texts` + (lines.length > MOST_ROWS ? `, ${MOST_ROWS} shown` : "");
    const row = (cells, tag) => element("tr", {}, ...cells.map((cell) => element(tag, { textContent: cell })));
    const [header, ...rows] = table;
    byId("table").replaceChildren(
        element("thead", {}, row(header, "th")),
        element("tbody", {}, ...rows.slice(0, MOST_ROWS).map((cells) => row(cells, "td"))),
    );
}

const taggedLine = (line, words) => words.map(({ start, end, label }) => `${line.slice(start, end)}/${label}`).join(" ");

function labelledLine({ about }, labels) {
    const shown = about.problem_type === "regression" ? labels : labels.filter(({ applies }) => applies);
    const digits = (score) => score.toFixed(4);
    return [shown.map(({ label }) => label).join("; "), shown.map(({ score }) => digits(score)).join("; ")];
}

function download() {
    // A cell that a spreadsheet would take for a formula is a text.
    const cell = (value) => `"${(/^[=+\-@\t\r]/u.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
    const csv = table.map((cells) => cells.map(cell).join(",")).join("\r\n");
    const url = URL.createObjectURL(new Blob(["\ufeff", csv, "\r\n"], { type: "text/csv" }));
    element("a", { href: url, download: "labels.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Starting

async function select(about) {
    document.title = about.title;
    byId("title").textContent = space.models.length > 1 ? space.title : about.title;
    byId("summary").textContent = about.summary;
    byId("hint").hidden = !about.hint;
    byId("hint").textContent = about.hint ?? "";
    byId("limits").replaceChildren(...about.limits.map((limit) => element("li", { textContent: limit })));
    byId("facts").textContent = about.facts;
    byId("text").lang = about.language ?? "";
    byId("lines").lang = about.language ?? "";
    byId("text").value = about.examples[0] ?? "";
    byId("examples").replaceChildren(
        ...about.examples.map((example) =>
            element("button", {
                type: "button",
                lang: about.language ?? "",
                textContent: example.length > 44 ? `${example.slice(0, 43)}…` : example,
                onclick: () => {
                    byId("text").value = example;
                    update().catch(fail);
                },
            }),
        ),
    );
    for (const button of byId("models").children) {
        button.setAttribute("aria-current", String(button.dataset.folder === about.folder));
    }
    byId("table").replaceChildren();
    byId("download").disabled = true;
    byId("progress").textContent = "";
    if (!predictors.has(about.folder)) predictors.set(about.folder, Predictor.load(libraries, about));
    const loaded = await predictors.get(about.folder);
    predictor = loaded;
    result = null;
    chosen = 0;
    await update();
    document.body.dataset.model = about.folder;
}

async function start() {
    space = await (await fetch("space.json")).json();
    libraries = loadLibraries(space.libraries);
    byId("models").hidden = space.models.length < 2;
    byId("models").append(
        ...space.models.map((about) => {
            const show = () => select(about).catch(fail);
            const button = element("button", { type: "button", textContent: about.title, onclick: show });
            button.dataset.folder = about.folder;
            return button;
        }),
    );
    byId("text").addEventListener("input", () => update().catch(fail));
    byId("result").addEventListener("click", ({ target }) => choose(Number(target.dataset?.index ?? -1)));
    byId("result").addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (step === undefined || event.target.dataset.index === undefined) return;
        event.preventDefault();
        choose(Number(event.target.dataset.index) + step);
    });
    byId("label-lines").addEventListener("click", () => labelLines().catch(fail));
    byId("download").addEventListener("click", download);
    byId("file").addEventListener("change", async ({ target }) => {
        if (target.files.length) byId("lines").value = await target.files[0].text();
    });
    await select(space.models[0]);
    document.body.dataset.ready = performance.now();
}

start().catch(fail);
