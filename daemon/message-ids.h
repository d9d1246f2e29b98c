/* message-ids.h - the MESSAGE_ID of every event in the journal. lib/systemd/catalog/deepseekd.catalog explains each.
 *
 * An id is for ever: what an event means may become clearer, never another thing. A new event gets a new id
 * (`journalctl --new-id128`), a row here and an entry in the catalogue. */
#pragma once

#define DS_MESSAGE_STARTED         "1e7a0a1a53634ae3a5dbdd516d086fc2"
#define DS_MESSAGE_STOPPING        "3ba2048ccdf0447688732946822900bf"
#define DS_MESSAGE_CONFIG_APPLIED  "5b207022728c444e9b7ebe3205e0a582"
#define DS_MESSAGE_CONFIG_REFUSED  "78df5d3df6154f2db21667b60def66bd"
#define DS_MESSAGE_PLUGIN_REFUSED  "4cc0364e36e2442ca87ef36fc934f145"
#define DS_MESSAGE_MODEL_LOADING   "f93b0f93876949008b8b3c6f9a769e23"
#define DS_MESSAGE_MODEL_LOADED    "a9064534b475416fbbe2b08ebdfb9ee3"
#define DS_MESSAGE_MODEL_UNLOADED  "58a40f9ff78b41a995e51815319bc399"
#define DS_MESSAGE_MODEL_FAILED    "da86de00583a463abcece81f898ef020"
#define DS_MESSAGE_MEMORY_REFUSED  "dfd93db870a942d2a268ce6163ce9b92"
#define DS_MESSAGE_ENGINE_DIED     "8101a2c3e7d340298cbbcfe66734b8b9"
#define DS_MESSAGE_REQUEST_DONE    "9b1acdb9d1b64cf0b867714d2c4e8775"
#define DS_MESSAGE_REQUEST_FAILED  "adbf7c6c756342edb5f752d76108ef51"
