"""What stands for the part of `huggingface_hub.HfApi` that uploading and downloading an agent needs."""

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

URL, TOKEN = "https://huggingface.co", "hf_token_that_may_write"


@dataclass
class Repository:
    """Commits, oldest first: (id, files)."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)


@dataclass
class Hub:
    """The hub, for one user.

    :param cache: where downloaded files are put.
    :param token: of the user, if there is one.
    """

    cache: Path
    token: str | None = TOKEN
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, repo, files):
        """Add a commit with some files, as a stranger could; return its id."""
        commits = self.repositories.setdefault(repo, Repository()).commits
        commits.append((hashlib.sha1(f"{len(commits)}{sorted(files)}".encode()).hexdigest(), files))
        return commits[-1][0]

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.token != TOKEN:
            raise _error("HfHubHTTPError", 401)
        if repo_id not in self.repositories:
            self.repositories[repo_id] = Repository(bool(private))
        return f"{URL}/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        commits = self.repositories[repo_id].commits
        before = commits[-1][1] if commits else {}
        kept = {
            name: content
            for name, content in before.items()
            if not any(fnmatch(name, p) for p in delete_patterns)
        }
        self.put(repo_id, kept | {path.name: path.read_bytes() for path in folder_path.iterdir()})

    def hf_hub_download(self, repo_id, filename, *, revision):
        self.asked.append(filename)
        found = self.repositories.get(repo_id)
        if found is None or (found.private and self.token != TOKEN):
            raise _error("RepositoryNotFoundError", 404)
        known = {commit[0]: commit for commit in found.commits}
        known |= dict.fromkeys((None, "main"), found.commits[-1])
        if revision not in known:
            raise _error("RevisionNotFoundError", 404)
        commit, files = known[revision]
        if filename not in files:
            raise _error("RemoteEntryNotFoundError", 404)
        path = self.cache / commit / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[filename])
        return str(path)


def _error(name, status):
    """Return an error as the hub's library raises it."""
    from huggingface_hub import errors

    response = SimpleNamespace(headers={}, request=None, status_code=status)
    found = getattr(errors, name)("refused", response=response)
    return found
