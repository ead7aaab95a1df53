from pytest_quantguard.errors import ModelFileError


def test_a_message_is_shown_as_it_is():
    assert (
        str(ModelFileError("There is no model at café/modèle.mlmodel."))
        == "There is no model at café/modèle.mlmodel."
    )


def test_control_characters_of_a_models_names_do_nothing_to_a_terminal():
    assert str(ModelFileError("layer '\x1b[2Jx\n'")) == r"layer '\x1b[2Jx\n'"


def test_very_long_names_are_shortened():
    message = str(ModelFileError(f"layer '{'a' * 10_000}z' is damaged."))
    assert message == f"layer '{'a' * 79}…{'a' * 18}z' is damaged."
