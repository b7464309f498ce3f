"""The upload routes of the README, for FastAPI."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, UploadFile
from stored import stored

from scan_pipeline import Limits
from scan_pipeline.fastapi import Scanning

scanning = Scanning(definitions=os.environ["DEFINITIONS"], limits=Limits(max_file_size=1 << 20), timeout=30)
app = FastAPI(lifespan=scanning.lifespan)
scanning.install(app)


@app.post("/upload")
async def upload(file: Annotated[UploadFile, Depends(scanning.clean)]) -> dict[str, object]:
    return {"name": file.filename, "stored": stored(file.filename, await file.read())}


@app.post("/avatar")
async def avatar(picture: Annotated[UploadFile, Depends(scanning.field("picture"))]) -> dict[str, object]:
    return {"name": picture.filename, "stored": stored(picture.filename, await picture.read())}


@app.put("/raw/{name}")
async def raw(name: str, content: Annotated[bytes, Depends(scanning.body)]) -> dict[str, object]:
    return {"name": name, "stored": stored(name, content)}
