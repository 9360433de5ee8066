"""Models-from-code entry point: MLflow runs this file when it loads a registered SpLiCE version."""

from mlflow.models import set_model

from conceptry.models.splice.pyfunc import SpliceExplainer

set_model(SpliceExplainer())
