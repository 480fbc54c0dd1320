// What the search lists first: pages for users, then the generated reference, then measurements and history.
const searched = (new URLSearchParams(window.location.search).get("q") || "").trim().toLowerCase();
const records = /^(benchmarks|results)\/|^CHANGELOG$|^CONTRIBUTING$|^docs\/(architecture|first_steps|licences)$/;
const reference = /^docs\/reference\//;
var Scorer = {
  score: ([page, title, , , score]) => {
    if (records.test(page)) return score / 4;
    if (reference.test(page)) return score;
    return 2 * score + (title.toLowerCase().replace(/[^\w-].*/, "") === searched ? 5 : 0); // "QAM" before "QAM-E"
  },
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0, // as in Sphinx
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
