// Loads a classifier or tagger and predicts, in the page alone. Nothing here touches the document.

// Most tokens of a batch, and of all batches that explain a text.
const BATCH_TOKENS = 4096;
const EXPLAINED_TOKENS = 24000;

/** Import the tokenizer and the runtime. */
export async function loadLibraries(urls, base = import.meta.url) {
    const [tokenizers, ort] = await Promise.all(
        [urls.tokenizers, urls.onnxruntime].map((url) => import(new URL(url, base))),
    );
    ort.env.wasm.numThreads = 1; // a page of a static Space may have no more
    return { tokenizers, ort };
}

/** A model: `predict` gives labels, `explain` what each word did for one of them. */
export class Predictor {
    /** Load what `about` names; `libraries` may still be on their way. */
    static async load(libraries, about, base = import.meta.url) {
        const folder = new URL(`${about.folder}/`, base);
        const [graph, tokenizer, settings] = await Promise.all([
            fetched(new URL(about.graph, folder), "arrayBuffer"),
            fetched(new URL("tokenizer.json", folder), "json"),
            fetched(new URL("tokenizer_config.json", folder), "json"),
        ]);
        const { ort, tokenizers } = await libraries;
        const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
        return new Predictor({ ort, tokenizers }, about, session, tokenizer, settings);
    }

    constructor({ tokenizers, ort }, about, session, tokenizer, settings) {
        this.about = about;
        this.isTagger = about.task === "token-classification";
        this.ort = ort;
        this.session = session;
        this.queue = Promise.resolve();
        // Words are split first, and what they are split by is no longer a part of their tokenizer.
        const steps = tokenizer.pre_tokenizer?.pretokenizers ?? [];
        const rest = steps.slice(about.word_steps);
        const splitting = rest.length ? { type: "Sequence", pretokenizers: rest } : null;
        this.tokenizer = new tokenizers.Tokenizer({ ...tokenizer, pre_tokenizer: splitting }, settings);
        this.splits = about.splits.map(({ pattern, behavior }) => ({
            regex: new tokenizers.SplitPreTokenizer({ pattern: { Regex: pattern }, behavior, invert: false }).pattern,
            isolated: behavior === "Isolated",
        }));
    }

    /** Find the words of a text, as `[start, end]`. */
    words(text) {
        if (this.isTagger && this.about.segments && text.trim() && !/\S[ \t]+\S/u.test(text)) {
            this.segmenter ??= new Intl.Segmenter(this.about.language, { granularity: "word" });
            return segmented(text, this.segmenter);
        }
        let pieces = [[0, text.length]];
        for (const { regex, isolated } of this.splits) {
            pieces = pieces.flatMap(([start, end]) => split(text.slice(start, end), regex, isolated, start));
        }
        return pieces;
    }

    /** Give a text's tokens: their ids and, of a tagger, where each word begins among them. */
    encode(text, words) {
        const { unknown, prefix, suffix, max_length: longest } = this.about;
        const encoded = (part) => this.tokenizer.encode(part, { add_special_tokens: false }).ids;
        if (!this.isTagger) {
            const ids = [...prefix, ...encoded(text), ...suffix];
            return { ids: (ids.length ? ids : [unknown]).slice(0, longest ?? undefined), firsts: [] };
        }
        const ids = [...prefix];
        const firsts = words.map((word) => {
            const first = ids.length;
            const found = encoded(word);
            ids.push(...(found.length ? found : [unknown]));
            return first;
        });
        ids.push(...suffix);
        return { ids: ids.length ? ids : [unknown], firsts };
    }

    /** Run a batch of rows of ids: the logits of each row, an array of numbers for each of its tokens. */
    run(rows) {
        const result = this.queue.then(() => this.runNow(rows));
        this.queue = result.catch(() => {});
        return result;
    }

    async runNow(rows) {
        const longest = Math.max(...rows.map((row) => row.length));
        const ids = new BigInt64Array(rows.length * longest);
        const mask = new BigInt64Array(rows.length * longest);
        rows.forEach((row, number) =>
            row.forEach((id, position) => {
                ids[number * longest + position] = BigInt(id);
                mask[number * longest + position] = 1n;
            }),
        );
        const tensor = (values) => new this.ort.Tensor("int64", values, [rows.length, longest]);
        const { logits } = await this.session.run({ input_ids: tensor(ids), attention_mask: tensor(mask) }, ["logits"]);
        const size = this.about.labels.length;
        const count = logits.data.length / size / rows.length;
        return rows.map((_, row) =>
            Array.from({ length: count }, (_, token) => {
                const start = (row * count + token) * size;
                return Array.from(logits.data.subarray(start, start + size));
            }),
        );
    }

    /** Label a text: a classifier's `labels`, or a tagger's `words`. */
    async predict(text) {
        const start = performance.now();
        const spans = this.isTagger ? this.words(text) : [];
        const { ids, firsts } = this.encode(text, spans.map(([from, to]) => text.slice(from, to)));
        const [logits] = await this.run([ids]);
        const result = { tokens: ids.length, milliseconds: 0 };
        if (this.isTagger) {
            result.words = spans.map(([from, to], index) => ({ start: from, end: to, ...this.best(logits[firsts[index]]) }));
        } else {
            result.labels = this.scored(logits[0]);
        }
        result.milliseconds = performance.now() - start;
        return result;
    }

    best(logits) {
        const index = logits.indexOf(Math.max(...logits));
        return { index, label: this.about.labels[index], score: softmax(logits)[index] };
    }

    /** Score the labels of a classifier, and say which of them apply. */
    scored(logits) {
        const { labels, problem_type: problem, thresholds } = this.about;
        if (problem === "regression") return labels.map((label, index) => ({ index, label, score: logits[index] }));
        if (problem === "multi_label_classification") {
            const scores = logits.map((logit) => 1 / (1 + Math.exp(-logit)));
            return labels.map((label, index) => {
                const score = scores[index];
                return { index, label, score, applies: score > (thresholds?.[index] ?? 0.5) };
            });
        }
        const scores = softmax(logits);
        const highest = scores.indexOf(Math.max(...scores));
        return labels.map((label, index) => ({ index, label, score: scores[index], applies: index === highest }));
    }

    /**
     * Tell how much each word moves the log-odds of a label: those with the word less those without it.
     *
     * Of a tagger, `target` is the word whose label it is. Of a long text, words that follow each other are left out
     * together. `isCurrent` stops what nobody waits for any more.
     */
    async explain(text, label, { target = null, isCurrent = () => true } = {}) {
        const spans = this.words(text);
        const texts = spans.map(([from, to]) => text.slice(from, to));
        const whole = this.encode(text, texts);
        const most = Math.max(8, Math.floor(EXPLAINED_TOKENS / whole.ids.length));
        const size = Math.ceil(spans.length / most);
        const groups = [];
        for (let first = 0; first < spans.length; first += size) {
            const last = Math.min(first + size, spans.length);
            if (target === null || target < first || target >= last) groups.push([first, last]);
        }
        const without = groups.map(([first, last]) => {
            if (!this.isTagger) {
                return { ...this.encode(text.slice(0, spans[first][0]) + text.slice(spans[last - 1][1]), []), at: 0 };
            }
            const left = this.encode("", [...texts.slice(0, first), ...texts.slice(last)]);
            return { ...left, at: left.firsts[target < first ? target : target - (last - first)] };
        });
        const at = this.isTagger ? whole.firsts[target] : 0;
        const rows = Math.max(1, Math.floor(BATCH_TOKENS / whole.ids.length) - 1);
        const moved = spans.map(() => 0);
        for (let start = 0; start < without.length; start += rows) {
            if (!isCurrent()) return null;
            // The text itself is in each batch, for int8 numbers depend a little on the batch.
            const batch = without.slice(start, start + rows);
            const [base, ...others] = await this.run([whole.ids, ...batch.map(({ ids }) => ids)]);
            batch.forEach((one, position) => {
                const change = this.logOdds(base[at], label) - this.logOdds(others[position][one.at], label);
                const [first, last] = groups[start + position];
                moved.fill(change, first, last);
            });
            await new Promise((resume) => setTimeout(resume));
        }
        return spans.map(([from, to], index) => ({ start: from, end: to, moved: moved[index] }));
    }

    logOdds(logits, label) {
        const { problem_type: problem } = this.about;
        if (problem === "multi_label_classification" || problem === "regression") return logits[label];
        const others = logits.filter((_, index) => index !== label);
        if (!others.length) return 0;
        const highest = Math.max(...others);
        return logits[label] - highest - Math.log(others.reduce((sum, one) => sum + Math.exp(one - highest), 0));
    }
}

function softmax(logits) {
    const highest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
}

function split(text, regex, isolated, offset) {
    const pieces = [];
    let before = 0;
    for (const match of text.matchAll(regex)) {
        const end = match.index + match[0].length;
        if (match.index > before) pieces.push([offset + before, offset + match.index]);
        if (isolated && end > match.index) pieces.push([offset + match.index, offset + end]);
        before = end;
    }
    if (before < text.length) pieces.push([offset + before, offset + text.length]);
    return pieces;
}

/** Let the browser split a text that has no spaces between words. */
function segmented(text, segmenter) {
    return Array.from(segmenter.segment(text))
        .filter(({ segment }) => segment.trim())
        .map(({ index, segment }) => [index, index + segment.length]);
}

async function fetched(url, kind) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url.pathname} could not be loaded (${response.status}).`);
    return response[kind]();
}
