// Sphinx's own scores, and the title of a section before all else: each key of the configuration is one.
var Scorer = {
  score: ([_document, _title, anchor, _description, score, _file, kind]) =>
    kind === "title" && anchor ? score + 100 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
