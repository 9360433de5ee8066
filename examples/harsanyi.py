"""Which inputs does a model use together? Harsanyi interactions of a model of one's own."""

from typing import Any

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import conceptry

data: Any = load_diabetes(as_frame=True)
table, y = data.data, data.target
model = make_pipeline(PolynomialFeatures(2), Ridge(0.1)).fit(table[:300], y[:300])
explainer = conceptry.Harsanyi(model, statistics=table[:300])

record = explainer.explain(table[300:303])
for answer in record.to_dict()["explanations"]:
    print(
        f"{answer['v_empty']:.0f} at the baseline, {answer['v_full']:.0f} for the patient; {answer['n_kept']} patterns"
    )
    for pattern in answer["patterns"][:5]:  # a quadratic model joins two columns at most
        print(f"  {pattern['effect']:+6.1f}  {' AND '.join(pattern['players'])}")
record[0].plot().savefig("harsanyi.png")

# Into the registry of MLflow, and back.
info = conceptry.log_model(explainer, registered_model_name="progression-patterns")
again = conceptry.load_model(info.model_uri)
print(info.model_uri, again.explain(table[300:301]).to_dict()["explanations"][0]["n_kept"])
