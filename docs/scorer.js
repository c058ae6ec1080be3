// Orders the results of the site's search: the API reference first, decisions and changes last.
var Scorer = {
  score: (result) => {
    if (result[0].startsWith("docs/api/")) return result[4] + 20;
    return /^(docs\/adr\/|CHANGELOG|tests\/)/.test(result[0]) ? result[4] - 20 : result[4];
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
