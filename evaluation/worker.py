"""The process that holds one version: load it, then answer requests until the pipe closes.

Run as a script, by `conceptry.evaluation.process`. It imports MLflow alone, so the version's own code is what runs,
whatever conceptry is installed beside it.
"""

import sys
import time
from multiprocessing.connection import Connection


def main() -> None:
    """Arguments: file descriptor of the pipe, model URI, device. The store comes by MLflow's variables."""
    descriptor, uri, device = sys.argv[1:]
    pipe = Connection(int(descriptor))
    import mlflow

    try:
        model = mlflow.pyfunc.load_model(uri, model_config={"device": device})
    except Exception as error:
        pipe.send(("error", _sentence(error)))
        return
    explainer = model.unwrap_python_model()
    explainer.progress = lambda what, share: pipe.send(("progress", (what, share)))
    pipe.send(("ready", str(getattr(explainer, "device", "unknown"))))
    while True:
        try:
            frame, params = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            answer = model.predict(frame, params=params)
        except Exception as error:
            pipe.send(("error", _sentence(error)))
        else:
            pipe.send(("answer", (answer, time.perf_counter() - start)))


def _sentence(error: Exception) -> str:
    return str(getattr(error, "message", error)).strip() or type(error).__name__


if __name__ == "__main__":
    main()
