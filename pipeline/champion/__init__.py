"""Owns the champion as a model: networks that a confirmation trained, ready to predict anywhere.

`ensemble` is what predicts; `folder` writes and reads it as plain files; `code` is what of this
package goes with them; `loader` is where MLflow enters; `choice` and `notes` say what is registered
and what is known of it. Where it is registered is `registry`'s: nothing here knows MLflow.
"""
