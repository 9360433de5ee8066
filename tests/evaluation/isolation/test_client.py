from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from conceptry.evaluation.isolation.client import VersionProcess

TEXTS = ("a red dog", "a blue train", "a tree", "a striped sun")


def test_answers_of_threads_are_their_own(tiny_version) -> None:
    with VersionProcess(tiny_version.uri, "cpu") as predict:

        def ask(text: str) -> list:
            return predict(pd.DataFrame({"text": [text]})).rows["concepts"].tolist()

        alone = {text: ask(text) for text in TEXTS}
        with ThreadPoolExecutor(len(TEXTS)) as threads:
            asked = list(TEXTS) * 10
            assert list(threads.map(ask, asked)) == [alone[text] for text in asked]
    assert len({str(answer) for answer in alone.values()}) == len(TEXTS)
