# python consumer.py EXPORT/2026.1/OP.json ...      (reads the JSON form; needs NumPy, not refpg)
import json
import sys
from pathlib import Path

import mine
import numpy as np

judged = wrong = 0
for file in map(Path, sys.argv[1:]):
    policy = json.loads((file.parent.parent / "policy.json").read_text())
    unit = policy["factor"] * policy["unit_roundoff"]["float64"]
    for case in json.loads(file.read_text())["cases"]:
        if case["stability"]:
            print(f"NOT ASKED  {case['id']}")
            continue
        answers = getattr(mine, file.stem)(**case["inputs"])
        leaves = case["expected"][0]["outputs"]
        conforms = True
        for name, leaf in leaves.items():
            output = [leaves[other]["R"] for other in leaves if other.split(".")[0] == name.split(".")[0]]
            least = policy["floor"] * max(map(max, output))
            value = np.array(leaf["value"])
            tolerance = unit * np.maximum(leaf["R"], least) + 0.5 * np.spacing(np.abs(value))
            error = np.abs(np.reshape(answers[name], value.shape) - value)
            conforms &= bool(np.all(error <= tolerance))
        print(f"{'CONFORMS ' if conforms else 'WRONG    '}  {case['id']}")
        judged, wrong = judged + 1, wrong + (not conforms)
print(f"{judged} judged, {wrong} wrong")
sys.exit(wrong > 0 if judged else 4)
