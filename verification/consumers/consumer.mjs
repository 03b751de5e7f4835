// node consumer.mjs EXPORT/2026.1/OP.json ...      (reads the JSON form)
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import * as mine from "./mine.mjs";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const halfUlp = (y) => {
  const next = new Float64Array([Math.abs(y)]);
  new BigUint64Array(next.buffer)[0] += 1n;
  return (next[0] - Math.abs(y)) / 2;
};
const output = (leaf) => leaf.split(".")[0];

let [judged, wrong] = [0, 0];
for (const path of process.argv.slice(2)) {
  const { factor, floor, unit_roundoff } = read(`${dirname(path)}/../policy.json`);
  for (const { id, stability, inputs, expected } of read(path).cases) {
    if (stability) {
      console.log(`NOT ASKED  ${id}`);
      continue;
    }
    const answers = mine[basename(path, ".json")](inputs);
    const leaves = Object.entries(expected[0].outputs);
    const conforms = leaves.every(([leaf, { value, R }]) => {
      const siblings = leaves.filter(([other]) => output(other) === output(leaf));
      const largest = Math.max(...siblings.flatMap(([, sibling]) => sibling.R));
      const entries = [answers[leaf]].flat(Infinity);
      return value.every((y, i) => {
        const tolerance = factor * unit_roundoff.float64 * Math.max(R[i], floor * largest) + halfUlp(y);
        return Math.abs(entries[i] - y) <= tolerance;
      });
    });
    console.log(`${conforms ? "CONFORMS " : "WRONG    "}  ${id}`);
    judged += 1;
    wrong += conforms ? 0 : 1;
  }
}
console.log(`${judged} judged, ${wrong} wrong`);
process.exit(judged === 0 ? 4 : Math.min(wrong, 1));
