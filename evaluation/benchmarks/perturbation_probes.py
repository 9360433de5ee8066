"""Do probes of a robust network look like their classes, and those of a standard one not? Judged by real digits."""

import time

from conceptry.evaluation.benchmarks.measure import Record
from conceptry.evaluation.benchmarks.perturbation_cases import ROBUST_16
from conceptry.evaluation.perturbation.data import load_reference
from conceptry.evaluation.perturbation.judges import judge, to_grey
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.pixels import as_pixel_model, to_pictures
from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.tasks import probe

PROBES = "probes"
ROBUST, STANDARD = ROBUST_16, "zoo:digits-16"
KNN = "5-NN accuracy"
PER_CLASS = 20


def quality(per_class: int = PER_CLASS, device: str = "cpu") -> list[Record]:
    """Probes from noise, q .9, of the robust and the standard network; the judges know the training rows alone."""
    reference = load_reference("digits-16")
    targets = sorted(set(reference.labels)) * per_class
    settings = Settings(q=0.9)
    epsilon = settings.radius(reference.pictures[0].size)
    records = []
    for name in (ROBUST, STANDARD):
        model = as_pixel_model(load_explained(name, device))
        start = time.perf_counter()
        found = probe(model, targets, settings=settings)
        seconds = time.perf_counter() - start
        judgement = judge(to_grey(to_pictures(found.perturbed)), targets, reference)
        extra = {
            KNN: judgement.knn,
            "SVC accuracy": judgement.svc,
            "margin": judgement.margin,
            "success": float(found.success.double().mean()),
        }
        case = f"{PROBES}, {len(targets)} from noise, q .9, epsilon {epsilon:.3g}"
        records.append(Record(case, name, seconds, extra=extra))
    return records
