"""What would have to change in an image, and what does a class look like? Sparse perturbations of digits."""

import numpy as np
from sklearn.datasets import load_digits

import conceptry

digits = np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8) / 16
images = [np.repeat((digits[i] * 255).astype(np.uint8)[..., None], 3, axis=2) for i in (0, 3, 7)]
robust = conceptry.Perturbation("zoo:digits-robust", epsilon=52)
standard = conceptry.Perturbation("zoo:digits", epsilon=52)

# Change each digit into another one. A robust network's become that digit, a standard network's become noise.
record = robust.explain(images, target=["8", "5", "9"])
for answer in record.to_dict()["explanations"]:
    after = answer["after"][0]
    print(
        f"toward {answer['target']}: {after['class']} {after['probability']:.2f}, {answer['changed']:.0%} of the pixels"
    )
record.beside(standard.explain(images, target=["8", "5", "9"])).plot().savefig("perturbation.png")

# The fewest pixels that flip the prediction, and what the network takes a class to be, from noise.
(answer,) = robust.explain(images[:1], target="8", sparsest=True).to_dict()["explanations"]
print(f"{answer['changed']:.0%} of the pixels are enough to reach an {answer['target']}")
robust.explain(target=[0, 3, 7]).plot().savefig("probes.png")

# Into the registry of MLflow, and back.
info = conceptry.log_model(robust, registered_model_name="digits-changed")
again = conceptry.load_model(info.model_uri)
print(info.model_uri, again.explain(images, target=["8", "5", "9"]).to_json() == record.to_json())
