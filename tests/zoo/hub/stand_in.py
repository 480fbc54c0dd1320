"""A hub in memory, with the methods of `huggingface_hub.HfApi` that upload and download an agent."""

import hashlib
from dataclasses import dataclass, field
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
    """The hub, as one user sees it.

    :param cache: folder of downloaded files.
    :param token: the user's token, or None.
    """

    cache: Path
    token: str | None = TOKEN
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, repo, files):
        """Add a commit with some files, as another user could; return the commit's id."""
        commits = self.repositories.setdefault(repo, Repository()).commits
        commits.append((hashlib.sha1(f"{len(commits)}{sorted(files)}".encode()).hexdigest(), files))
        return commits[-1][0]

    def create_repo(self, repo_id, *, exist_ok):
        if repo_id not in self.repositories:
            self.auth_check(repo_id, write=True)
            self.repositories[repo_id] = Repository()
        return f"{URL}/{repo_id}"

    def auth_check(self, repo_id, *, write):
        if self.token != TOKEN:
            raise _error("HfHubHTTPError", 401)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        folder_path = Path(folder_path)
        commits = self.repositories[repo_id].commits
        files = dict(commits[-1][1]) if commits else {}
        self.put(repo_id, files | {path.name: path.read_bytes() for path in folder_path.iterdir()})

    def hf_hub_download(self, repo_id, filename, *, revision):
        self.asked.append(filename)
        repository = self.repositories.get(repo_id)
        # as on the real hub, other users cannot distinguish a private repository from a missing one
        if repository is None or (repository.private and self.token != TOKEN):
            raise _error("RepositoryNotFoundError", 404)
        newest, _ = repository.commits[-1]
        commit = newest if revision in (None, "main") else revision
        files = dict(repository.commits)[commit]
        if filename not in files:
            raise _error("RemoteEntryNotFoundError", 404)
        path = self.cache / commit / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[filename])
        return str(path)


def _error(name, status):
    """Return an error of the hub's library."""
    from huggingface_hub import errors

    response = SimpleNamespace(headers={}, request=None, status_code=status)
    return getattr(errors, name)("refused", response=response)
