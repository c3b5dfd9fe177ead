"""Host side of mm-lockstep: fetch, tree, build, guest image, boot, verdict."""
