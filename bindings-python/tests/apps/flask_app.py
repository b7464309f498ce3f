"""The upload route of the README, for Flask."""

import os

from flask import Flask, request
from stored import stored

from scan_pipeline import Limits
from scan_pipeline.flask import Scanning

app = Flask(__name__)
scanning = Scanning(app, definitions=os.environ["DEFINITIONS"], limits=Limits(max_file_size=1 << 20), timeout=30)
loaded_by = os.getpid()


@app.post("/upload")
def upload() -> dict[str, object]:
    file = scanning.clean(request.files["file"])
    size = stored(file.filename, file.read())
    return {"name": file.filename, "stored": size, "pid": os.getpid(), "loaded_by": loaded_by}
