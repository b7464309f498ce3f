"""The upload routes of the README, for FastAPI."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, UploadFile

from scan_pipeline import Limits
from scan_pipeline.fastapi import Scanning

scanning = Scanning(definitions=os.environ["DEFINITIONS"], limits=Limits(max_file_size=1 << 20), timeout=30)
app = FastAPI(lifespan=scanning.lifespan)
scanning.install(app)


@app.post("/upload")
async def upload(file: Annotated[UploadFile, Depends(scanning.clean)]) -> dict[str, object]:
    content = await file.read()
    return {"name": file.filename, "stored": len(content)}


@app.post("/avatar")
async def avatar(picture: Annotated[UploadFile, Depends(scanning.field("picture"))]) -> dict[str, object]:
    return {"name": picture.filename, "stored": len(await picture.read())}


@app.put("/raw/{name}")
async def raw(name: str, content: Annotated[bytes, Depends(scanning.body)]) -> dict[str, object]:
    return {"name": name, "stored": len(content)}
