"""Which words make up an image? SpLiCE over the small encoder of scenes that ships with conceptry."""

import conceptry
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

scenes = EmojiScenes("heldout", 16, seed=7, n_objects=2)
images = [scenes[12].image, scenes[9].image]
explainer = conceptry.Splice("zoo:emoji-clip", vocabulary="emoji", l1_penalty=0.25)

# Images, texts and embeddings can be explained together.
record = explainer.explain([*images, "a dog on a red background"])
for answer in record.to_dict()["explanations"]:
    words = ", ".join(f"{found['concept']} {found['weight']:.2f}" for found in answer["concepts"])
    print(f"{answer['l0']} words, cosine {answer['cosine']:.2f}, gap {answer['gap']:.0e}: {words}")
record.plot().savefig("splice.png")

# What is left of the first image without its pattern?
(answer,) = explainer.explain(images[:1], suppress=["striped"]).to_dict()["explanations"]
print(f"without 'striped': cosine {answer['cosine']:.2f}")

# Into the registry of MLflow, and back.
info = conceptry.log_model(explainer, registered_model_name="scenes-in-words")
again = conceptry.load_model(info.model_uri)
print(info.model_uri, again.explain(images).to_json() == explainer.explain(images).to_json())
