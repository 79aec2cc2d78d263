"""From raw values to ids: text and number forms, vocabularies, the encoder."""
