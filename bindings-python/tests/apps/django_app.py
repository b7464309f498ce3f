"""The upload views of the README, for Django, in one file."""

import os

import django
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from stored import stored

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    SECRET_KEY="of no use",
    ROOT_URLCONF=__name__,
    FILE_UPLOAD_HANDLERS=[
        "scan_pipeline.django.ScanningUploadHandler",
        "django.core.files.uploadhandler.MemoryFileUploadHandler",
        "django.core.files.uploadhandler.TemporaryFileUploadHandler",
    ]
    if os.environ.get("STREAMING")
    else ["django.core.files.uploadhandler.TemporaryFileUploadHandler"],
    SCAN_PIPELINE={"definitions": os.environ["DEFINITIONS"], "limits": None, "timeout": 30},
    LOGGING_CONFIG=None,
)
django.setup()

from django import forms  # noqa: E402

from scan_pipeline import Limits  # noqa: E402
from scan_pipeline.django import get_scanner, validate_clean  # noqa: E402

settings.SCAN_PIPELINE["limits"] = Limits(max_file_size=1 << 20)
get_scanner()  # Before the workers fork: they share its memory.


class UploadForm(forms.Form):
    file = forms.FileField(validators=[validate_clean])


def upload(request: HttpRequest) -> JsonResponse:
    """What the upload handler let through."""
    file = request.FILES["file"]
    assert isinstance(file, UploadedFile)
    return JsonResponse({"name": file.name, "stored": stored(file.name, file.read())})


def form(request: HttpRequest) -> JsonResponse:
    """What the validator let through."""
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return JsonResponse({"error": form.errors.get_json_data()["file"][0]["code"]}, status=422)
    file = form.cleaned_data["file"]
    return JsonResponse({"name": file.name, "stored": stored(file.name, file.read())})


urlpatterns = [path("upload", upload), path("form", form)]
application = get_wsgi_application()
