#!/bin/sh
# A whole plugin: keeps a greeting. The action is the argument, the request is one line on standard input.
greeting() { sed 's/.*"settings":{"name":"\([^"]*\)".*/Hello \1/'; }

case "$1" in
describe) echo '{"event":"description","summary":"a greeting","settings":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"],"additionalProperties":false}}' ;;
capture)
  # Nothing else can go wrong here; `retry` says that trying again later can help.
  greeting > hello.txt || {
    echo '{"event":"failed","code":"disk_full","message":"the greeting cannot be written","retry":true}'
    exit 1
  }
  echo '{"event":"artifact","path":"hello.txt","format":"text"}' ;;
validate)
  # Not that it looks like one: that it is the one.
  [ "$(cat hello.txt)" = "$(greeting)" ] && verdict=proven || verdict=failed
  echo '{"event":"validation","name":"the greeting is there","verdict":"'$verdict'"}' ;;
esac
