"""A store in Redis or Valkey. Lists and hashes are moved by Lua scripts, each in one round trip."""
