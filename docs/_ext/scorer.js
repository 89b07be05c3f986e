// How the search of Sphinx orders its results: https://www.sphinx-doc.org/en/master/usage/configuration.html
// A reader who types a word wants the page of the task first, then that of the idea, then single names. A reader who types
// a name of the library, such as DecisionTimeoutError or max_uploads, wants its entry.
const FOLDERS = { start: 12, "how-to": 14, examples: 6, concepts: 10, reference: 0, project: -2 };
const OF_HISTORY = ["project/changelog", "project/names"];

const TYPED = (new URLSearchParams(window.location.search).get("q") ?? "").trim().replace(/\(\)$/, "");
const TYPED_NAME = /[a-z][A-Z]|\w[_.]\w/.test(TYPED) ? TYPED : null;

var Scorer = {
  score: ([page, title, anchor, _description, score, _file, kind]) => {
    const entry = kind === "object" && TYPED_NAME !== null && `.${title}`.endsWith(`.${TYPED_NAME}`) ? 40 : 0;
    const option = page === "reference/options" && anchor === "" && /^[a-z]+(_[a-z]+)+$/.test(TYPED) ? 20 : 0;
    const folder = FOLDERS[page.split("/")[0]] ?? 0;
    const whole = anchor === "" || kind === "text" ? 4 : 0;
    const history = OF_HISTORY.includes(page) ? 12 : 0;
    return score + entry + option + folder + whole - history;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 5, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
