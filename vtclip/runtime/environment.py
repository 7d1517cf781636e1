"""The environment of a run: trusted certificates, the cache's folder, and Snakemake's profile."""

import argparse
import errno
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vtclip.settings import ConfigError
from vtclip.wording import did_you_mean

# Read by httpx, urllib and the hub's library; by requests, which gdown uses; by requests, too.
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
UNKNOWN_ISSUER = {18, 19, 20, 21}  # OpenSSL's codes of certificates that another file may mend
OUTDATED = {9, 10}


@contextmanager
def trusted_certificates() -> Iterator[None]:
    """Let every library trust the certificates that one library's variable names."""
    named = {name: os.environ[name] for name in BUNDLES if os.environ.get(name)}
    for name, path in named.items():
        _check_certificates(name, path)
    path = next(iter(named.values()), "")
    file, bundle = ("SSL_CERT_DIR" if Path(path).is_dir() else BUNDLES[0]), BUNDLES[1]
    added = {name for name in (file, bundle) if path and not os.environ.get(name)}
    os.environ.update(dict.fromkeys(added, path))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _check_certificates(name: str, path: str) -> None:
    if Path(path).is_dir() and name != BUNDLES[0]:
        return  # requests reads folders, too
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"{name}: this variable names no file of certificates.\n"
            f"  found:    {path}: {reason}\n"
            f"  expected: certificates in PEM form; or take the variable away: unset {name}"
        ) from None


def explain(error: BaseException) -> str:
    """Explain an error of a download in one line: its cause, and the variable that mends it."""
    if (refused := find_certificate_error(error)) is not None:
        return f"certificate verify failed: {refused.verify_message}{_advise(refused)}"
    for cause in _list_causes(error):
        if isinstance(cause, OSError) and _is_of_cache(cause.filename):
            return explain_cache(cause)
    lines = (str(cause).strip().splitlines() for cause in reversed([*_list_causes(error)]))
    return next((found[0] for found in lines if found), type(error).__name__)


def find_certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Find the certificate among the causes of an error; None if it has other causes."""
    found = (e for e in _list_causes(error) if isinstance(e, ssl.SSLCertVerificationError))
    return next(found, None)


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__  # httpx and others suppress the latter


def _advise(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in OUTDATED:
        return "; is the clock of this machine right?"
    if error.verify_code in UNKNOWN_ISSUER:
        return (
            ". If a proxy or a server of your network signs its own, name a file with its "
            "certificate in PEM form: export SSL_CERT_FILE=/path/to/certificates.pem"
        )
    return ""


def cache_folder() -> Path:
    """The folder in which Snakemake and the hub's library keep their files."""
    # `Path.expanduser` is an error for a user without a home.
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111


def check_cache() -> None:
    """Check that files can be made in the cache's folder."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise ConfigError(explain_cache(error)) from None


def explain_cache(error: OSError) -> str:
    """Explain that the cache cannot be written, and name the variable for another folder."""
    return (
        f"{error.filename}: {error.strerror}. Snakemake and the hub's library keep files below "
        "HOME. Name a folder that can be written: export XDG_CACHE_HOME=/path/to/folder"
    )


def _is_of_cache(path: object) -> bool:
    """Check that a path is in the cache's folder, or is a folder above it."""
    if not isinstance(path, str):
        return False
    return Path(path).is_relative_to(cache_folder()) or cache_folder().is_relative_to(path)


def check_profile(arguments: Sequence[str], project: str | Path) -> None:
    """Check that the workflow profile of Snakemake's arguments exists.

    Snakemake itself leaves out one that does not, and runs every job on this machine. It searches
    here, in profiles/ here, and in profiles/ of the workflow's folder `project`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workflow-profile", default="none")
    name = parser.parse_known_args(arguments)[0].workflow_profile
    folders = (Path(), Path("profiles"), Path(project, "profiles"))
    if name == "none" or any((folder / name).exists() for folder in folders):
        return
    known = {path.name for folder in folders[1:] for path in folder.glob("[!.]*")}
    raise ConfigError(
        f"--workflow-profile: there is no profile {name}; known: {', '.join(sorted(known))}, and "
        f"any folder with a config.yaml.{did_you_mean(Path(name).name, known)}"
    )
