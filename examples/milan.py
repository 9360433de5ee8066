"""What does a neuron respond to? MILAN over the units of a small classifier of scenes."""

import conceptry

# Exemplars: of 300 scenes the five that drive each unit of a layer most, and where in them the unit is active.
explainer = conceptry.Milan("zoo:scenes", layers=["layer4"], size=300, k=5)
record = explainer.explain("layer4:0-9", alternatives=2)
for answer in record.to_dict()["explanations"]:
    others = ", ".join(other["text"] for other in answer["alternatives"])
    print(f"{answer['layer']}:{answer['unit']}  {answer['description']} (PMI {answer['pmi']:.1f}); or {others}")
record.plot().savefig("milan.png")

# Into the registry of MLflow, and back.
info = conceptry.log_model(explainer, registered_model_name="scenes-units")
again = conceptry.load_model(info.model_uri)
print(info.model_uri, again.explain("layer4:3").to_dict()["explanations"][0]["description"])
