"""Running the study: profiles, sessions of notebooks, claims and verdicts, reports and pages."""

from saliencylib._lazy import lazily

NAMES = {
    "Run": "saliencylib.study.session",
    "start": "saliencylib.study.session",
    "source_code": "saliencylib.study.session",
}
__getattr__, __dir__ = lazily(__name__, NAMES)
